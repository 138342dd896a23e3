//! The rights of members and administrators of a channel.

use crate::{
    change::{Member, Profile, Roster, RowChange},
    decision::Known,
    error::{Code, Rejection},
};

/// Returns the caller's row if the caller is a member.
///
/// # Errors
/// `not-found` if it is no member. It must not learn if the channel exists.
pub(crate) fn member(known: &Known) -> Result<&Member, Rejection> {
    known
        .own_member
        .as_ref()
        .filter(|it| it.is_current())
        .ok_or_else(Rejection::no_channel)
}

/// Returns the profile and roster of the channel if the caller administers it.
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

/// Returns the condition that `administrator` has not lost its right before the commit.
pub(crate) fn still_administers(administrator: &Member) -> RowChange {
    RowChange::Administers {
        subscriber: administrator.subscriber.clone(),
        joined: administrator.joined,
    }
}

/// Returns the other subscriber's row if that subscriber is a member.
///
/// # Errors
/// `not-found` if it is no member.
pub(crate) fn other(known: &Known) -> Result<&Member, Rejection> {
    known
        .other_member
        .as_ref()
        .filter(|it| it.is_current())
        .ok_or_else(|| {
            Rejection::new(
                Code::NotFound,
                "this subscriber is not a member of the channel",
            )
        })
}
