//! `authorize`: gives this connection a fresh token.
//!
//! `{"type":"authorize","token":"…"}`

use super::{Fields, Message, Refusal};
use crate::{
    Subscriber,
    decision::{BearerToken, Commit, Context, Decision, Known, Needs},
    error::Rejection,
};

/// `authorize`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorize {
    token: BearerToken,
}

impl Message for Authorize {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            token: BearerToken::new(fields.string("token")?),
        })
    }

    fn needs(&self, _: &Subscriber) -> Needs {
        Needs {
            response: true,
            ..Needs::default()
        }
    }

    fn decide(&self, _: &Context, _: &Known) -> Result<Decision, Rejection> {
        Ok(Decision::commit(Commit::Authorize {
            token: self.token.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use crate::messages::tests::{ignored, parsed};

    #[test]
    fn debug_output_hides_token() {
        let message = parsed(r#"{"type":"authorize","token":"s3cret"}"#);
        assert!(!format!("{message:?}").contains("s3cret"));
        ignored(&[
            r#"{"type":"authorize"}"#,
            r#"{"type":"authorize","token":null}"#,
        ]);
    }
}
