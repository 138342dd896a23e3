//! The examples of the RFCs: signatures of RFC 7515 (appendix A) and RFC 8037 (appendix A), keys of RFC 7517 (appendix A). The
//! algorithms are those of RFC 7518, which has no signatures of its own.

use serde_json::{Value, json};

use crate::{
    keys::{KeySet, Verdict},
    parse::Parsed,
    tests::issuer::Signer,
};

/// The payload of RFC 7515, A.1 to A.3 and A.5.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// A token of an RFC, and the public key that it is signed with.
struct Example {
    token: String,
    key: Value,
}

/// RFC 7515, A.2.
fn rs256() -> Example {
    let signature = concat!(
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZ",
        "cAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-e",
        "OkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );
    let modulus = concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs",
        "D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV",
        "MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    );
    Example {
        token: format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.{signature}"),
        key: json!({"kty": "RSA", "n": modulus, "e": "AQAB"}),
    }
}

/// RFC 7515, A.3.
fn es256() -> Example {
    let signature =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    Example {
        token: format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.{signature}"),
        key: json!({
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }),
    }
}

/// RFC 8037, A.4.
fn eddsa() -> Example {
    let signature =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    Example {
        token: format!("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.{signature}"),
        key: json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }),
    }
}

fn examples() -> [Example; 3] {
    [rs256(), es256(), eddsa()]
}

fn set(key: &Value) -> KeySet {
    KeySet::read(json!({ "keys": [key] }).to_string().as_bytes()).unwrap()
}

/// Returns true if the key signed the token. The claims are not read: the examples' are not for this service.
fn accepts(key: &Value, token: &str) -> bool {
    Parsed::read(token).is_some_and(|token| set(key).verify(&token) == Verdict::Good)
}

#[test]
fn rfc_signatures_verify() {
    for Example { token, key } in examples() {
        assert!(accepts(&key, &token), "{token}");
        for other in examples() {
            assert_eq!(accepts(&other.key, &token), other.key == key, "{token}");
        }
    }
}

/// The changes are those of Project Wycheproof's vectors for JSON Web Signatures.
#[test]
fn changed_rfc_tokens_are_refused() {
    for Example { token, key } in examples() {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            panic!("{token}");
        };
        // Replaces the first character by another one.
        let change = |part: &str| format!("X{}", &part[1..]);
        for changed in [
            format!("{header}.{payload}.{}", change(signature)),
            format!("{header}.{}.{signature}", change(payload)),
            format!("{}.{payload}.{signature}", change(header)),
            format!("{header}.{payload}."),
            format!("{header}.{payload}"),
            format!("{header}..{signature}"),
            format!("{header}.{signature}"),
            format!(".{payload}.{signature}"),
            format!("{payload}.{signature}"),
            format!(".{payload}."),
            payload.to_owned(),
            String::new(),
            format!("{token}."),
            format!("{token}.foo"),
            format!("{token}="),
            format!(" {token}"),
            // The header is `{"alg":"none"}`.
            format!("eyJhbGciOiJub25lIn0.{payload}."),
            format!("eyJhbGciOiJub25lIn0.{payload}.{signature}"),
            json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
        ] {
            assert!(!accepts(&key, &changed), "{changed}");
        }
    }
}

#[test]
fn embedded_key_is_ignored() {
    let attacker = Signer::ed25519("attacker");
    let header = json!({"alg": "EdDSA", "jwk": attacker.jwk()});
    let token = attacker.sign(&header, &json!({}));
    assert!(accepts(&attacker.jwk(), &token));
    assert!(!accepts(&eddsa().key, &token));
}

#[test]
fn unsupported_rfc_tokens_are_refused() {
    // RFC 7515: A.1 (HS256), A.4 (ES512), A.5 (none), and the example of `crit` in appendix E.
    for token in [
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        concat!(
            "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_",
            "7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
        )
        .to_owned(),
        format!("eyJhbGciOiJub25lIn0.{PAYLOAD}."),
        "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9VTkRFRklORUQiOnRydWUNCn0.RkFJTA.".to_owned(),
    ] {
        for Example { key, .. } in examples() {
            assert!(!accepts(&key, &token), "{token}");
        }
    }
    // The keys of A.1 and A.4.
    for key in [
        json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
        json!({
            "kty": "EC",
            "crv": "P-521",
            "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
            "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
        }),
    ] {
        let set = json!({ "keys": [key] }).to_string();
        assert!(KeySet::read(set.as_bytes()).is_none(), "{set}");
    }
}

/// RFC 7517, A.1: a P-256 key for encryption, and an RSA key.
#[test]
fn rfc_encryption_key_is_ignored() {
    let ec = json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "use": "enc",
        "kid": "1",
    });
    let rsa = json!({
        "kty": "RSA",
        "n": concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj",
            "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ",
            "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK",
            "nqDKgw",
        ),
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    });
    let set = json!({ "keys": [ec, rsa] }).to_string();
    assert_eq!(KeySet::read(set.as_bytes()).unwrap().len(), 1);
}
