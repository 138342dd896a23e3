//! The vectors of Project Wycheproof for the three algorithms: signatures with edge cases, malformed ones and forged ones.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify};

use super::KeySet;

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns an integer's bytes without leading zeros, as a JWK has it (RFC 7518, 6.3.1.1).
fn integer(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|it| **it == 0).count();
    text(&bytes[zeros..])
}

/// Returns a P-256 key. `point` is uncompressed (SEC 1, 2.3.3).
fn p256(point: &[u8]) -> Value {
    json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
}

/// Returns true if the key verifies the signature.
fn verifies(key: &Value, message: &[u8], signature: &[u8]) -> bool {
    let set = KeySet::read(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
    set.0[0].material.verify(message, signature)
}

/// The vectors that were tried, by their expected result.
#[derive(Default)]
struct Tally {
    valid: usize,
    invalid: usize,
}

impl Tally {
    /// Fails if the key accepts an invalid signature or refuses a valid one. An acceptable one may be either.
    fn check(
        &mut self,
        key: &Value,
        message: &[u8],
        signature: &[u8],
        expected: TestResult,
        id: usize,
    ) {
        let verified = verifies(key, message, signature);
        match expected {
            TestResult::Valid => {
                assert!(verified, "vector {id} is valid");
                self.valid += 1;
            }
            TestResult::Invalid => {
                assert!(!verified, "vector {id} is invalid");
                self.invalid += 1;
            }
            TestResult::Acceptable => {}
        }
    }
}

#[test]
fn es256_agrees_with_wycheproof() {
    let mut tally = Tally::default();
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in set.test_groups {
        let key = p256(&group.key.key);
        for test in group.tests {
            tally.check(&key, &test.msg, &test.sig, test.result, test.tc_id);
        }
    }
    assert!(tally.valid > 100 && tally.invalid > 50);
}

#[test]
fn es256_refuses_der_signatures() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).unwrap();
    for group in set.test_groups {
        let key = p256(&group.key.key);
        for test in group.tests {
            let verified = verifies(&key, &test.msg, &test.sig);
            assert!(!verified, "vector {}", test.tc_id);
        }
    }
}

#[test]
fn es256_refuses_keys_of_other_curves() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256k1Sha256P1363).unwrap();
    for group in set.test_groups {
        let key = p256(&group.key.key);
        for test in group.tests {
            let verified = verifies(&key, &test.msg, &test.sig);
            assert!(!verified, "vector {}", test.tc_id);
        }
    }
}

#[test]
fn rs256_agrees_with_wycheproof() {
    use rsa_pkcs1_verify::{TestName, TestSet};

    for name in [
        TestName::Rsa2048Sha256,
        TestName::Rsa3072Sha256,
        TestName::Rsa4096Sha256,
        TestName::Rsa8192Sha256,
    ] {
        let mut tally = Tally::default();
        for group in TestSet::load(name).unwrap().test_groups {
            let (n, e) = (integer(&group.key.n), integer(&group.key.e));
            let key = json!({"kty": "RSA", "n": n, "e": e});
            for test in group.tests {
                tally.check(&key, &test.msg, &test.sig, test.result, test.tc_id);
            }
        }
        assert!(tally.valid > 5 && tally.invalid > 100, "{name:?}");
    }
}

#[test]
fn eddsa_agrees_with_wycheproof() {
    let mut tally = Tally::default();
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": text(&group.key.pk)});
        for test in group.tests {
            tally.check(&key, &test.msg, &test.sig, test.result, test.tc_id);
        }
    }
    assert!(tally.valid > 50 && tally.invalid > 50);
}
