//! The claims of a token whose signature was verified (RFC 7519, 4.1).

use core::time::Duration;

use protocol::{Domain, Subscriber, SubscriberId, Timestamp};
use serde_json::{Map, Value};
use service::ports::{Jti, SignedToken, TokenHash};

use crate::Settings;

/// How far the issuer's clock may be ahead of ours, in seconds.
const SKEW: i64 = 60;
/// The maximum length of a `jti` in bytes. It is part of a key in the table.
const JTI_BYTES: usize = 256;
/// The last second of the year 9999.
const LATEST: i64 = 253_402_300_799;

/// Reads the claims. Returns `None` if the token is for another audience, or if a claim is missing or invalid.
pub(crate) fn read(settings: &Settings, signed: &str, payload: &[u8]) -> Option<SignedToken> {
    let claims: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let text = |name: &str| claims.get(name)?.as_str();
    if text("iss")? != settings.issuer || !is_for(claims.get("aud")?, &settings.audience) {
        return None;
    }
    let subscriber = Subscriber {
        domain: Domain::parse(text(&settings.domain_claim)?).ok()?,
        id: SubscriberId::parse(text("sub")?).ok()?,
    };
    let expires = time(claims.get("exp")?)?;
    let mut begins = Timestamp::from_millis(0);
    for name in ["nbf", "iat"] {
        if let Some(value) = claims.get(name) {
            begins = begins.max(time(value)?);
        }
    }
    let jti = match claims.get("jti") {
        Some(jti) => Some(Jti::new(
            &settings.issuer,
            jti.as_str().filter(|it| is_jti(it))?,
        )),
        None => None,
    };
    Some(SignedToken {
        hash: TokenHash::of_signed(signed),
        subscriber,
        begins: begins.plus_seconds(-SKEW),
        expires,
        jti,
    })
}

/// Returns true if the text is a valid `jti`, which can be part of a key in the table.
pub(crate) fn is_jti(jti: &str) -> bool {
    (1..=JTI_BYTES).contains(&jti.len()) && !jti.chars().any(char::is_control)
}

/// Returns true if `aud`, a string or a list of strings, names `us`.
fn is_for(audience: &Value, us: &str) -> bool {
    match audience {
        Value::String(one) => one == us,
        Value::Array(many) => many.iter().any(|it| it.as_str() == Some(us)),
        _ => false,
    }
}

/// Reads a time in seconds since the epoch. A fraction is dropped, so a token never ends later than it says.
fn time(value: &Value) -> Option<Timestamp> {
    let seconds = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => seconds,
        (None, Some(seconds)) => whole(seconds)?,
        (None, None) => return None,
    };
    (0..=LATEST)
        .contains(&seconds)
        .then(|| Timestamp::from_millis(seconds * 1_000))
}

fn whole(seconds: f64) -> Option<i64> {
    // `Duration` drops the fraction, and refuses negative, infinite and too large numbers.
    let whole = Duration::try_from_secs_f64(seconds).ok()?.as_secs();
    i64::try_from(whole).ok()
}
