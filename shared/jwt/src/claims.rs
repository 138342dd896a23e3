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

/// Reads the claims. Returns `None` if the token is for another audience, if a claim is missing or invalid, or if the
/// issuer may not speak for the domain.
pub(crate) fn read(settings: &Settings, signed: &str, payload: &[u8]) -> Option<SignedToken> {
    let claims: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let text = |name: &str| claims.get(name)?.as_str();
    if text("iss")? != settings.issuer || !is_for(claims.get("aud")?, &settings.audience) {
        return None;
    }
    let domain = Domain::parse(text(&settings.domain_claim)?).ok()?;
    if !settings.speaks_for(&domain) {
        return None;
    }
    let subscriber = Subscriber {
        domain,
        id: SubscriberId::parse(text("sub")?).ok()?,
    };
    let expires = time(claims.get("exp")?)?;
    let issued = claims.get("iat").map(time);
    let not_before = claims.get("nbf").map(time);
    // A token must not live longer than configured. Without `iat` it is in force only for so long before its end.
    let earliest = expires.plus_seconds(-settings.max_seconds);
    let mut begins = match issued {
        Some(issued) => issued.filter(|issued| *issued >= earliest)?,
        None => earliest,
    };
    if let Some(not_before) = not_before {
        begins = begins.max(not_before?);
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
/// Returns `None` for a time that the service cannot express, such as one after the year 9999.
fn time(value: &Value) -> Option<Timestamp> {
    let seconds = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => seconds,
        (None, Some(seconds)) => whole(seconds)?,
        (None, None) => return None,
    };
    if seconds < 0 {
        return None;
    }
    Timestamp::from_seconds(seconds)
}

fn whole(seconds: f64) -> Option<i64> {
    // `Duration` drops the fraction, and refuses negative, infinite and too large numbers.
    let whole = Duration::try_from_secs_f64(seconds).ok()?.as_secs();
    i64::try_from(whole).ok()
}
