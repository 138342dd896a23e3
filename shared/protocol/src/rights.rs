//! Who may do what to a channel.

use crate::{
    change::{Member, Profile, Roster},
    decide::Known,
    error::{Code, Rejection},
};

/// The caller's row, if it is a member.
///
/// # Errors
/// `not-found`: to who is no member there is no such channel.
pub(crate) fn member(known: &Known) -> Result<&Member, Rejection> {
    known
        .own_member
        .as_ref()
        .filter(|it| it.is_current())
        .ok_or_else(Rejection::no_channel)
}

/// What an administrator acts on: the channel's profile and roster.
///
/// # Errors
/// `not-found` if the caller is no member, `forbidden` if it does not administer the channel.
pub(crate) fn administered(known: &Known) -> Result<(&Profile, Roster), Rejection> {
    let member = member(known)?;
    let (Some(profile), Some(roster)) = (&known.profile, known.open_roster()) else {
        return Err(Rejection::no_channel());
    };
    if !member.administrator {
        return Err(Rejection::new(
            Code::Forbidden,
            "only an administrator of the channel may do this",
        ));
    }
    Ok((profile, roster))
}

/// The other subscriber's row, if it is a member.
///
/// # Errors
/// `not-found`.
pub(crate) fn other(known: &Known) -> Result<&Member, Rejection> {
    known
        .other_member
        .as_ref()
        .filter(|it| it.is_current())
        .ok_or_else(|| {
            Rejection::new(
                Code::NotFound,
                "this subscriber is no member of the channel",
            )
        })
}
