//! The contract of the storage ports: one suite for each guarantee of the traits, for every adapter.
//!
//! A suite panics where the store breaks its guarantee. Each suite works in domains of its own, so that all of them can
//! share one database. They use the wall clock, so that times to live mean the same to the store.
//! [`each_suite`](crate::each_suite) makes a test of each.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the suites are tests: they panic"
)]

mod change;
mod channels;
mod connections;
mod direct;
mod endings;
mod fixtures;
mod gates;
mod idempotency;
mod identity;
mod leases;
mod logs;
mod presence;
mod reauthorize;
mod sessions;
mod signed;
mod tokens;

pub use self::{
    change::{change_is_atomic, change_moves_members, changes_exclude_each_other, tombstones_end},
    channels::{
        channels_in_batches, created_channel, invitations, members_in_pages, memberships_in_pages,
        read_cursors_of_members, seniors,
    },
    connections::{connections_in_batches, forgetting, refused_registration, registration},
    direct::{conversations_in_pages, direct_conversation, direct_read_cursors},
    endings::{endings, expiry_checkpoint},
    fixtures::now,
    gates::{
        first_gate_lowered, gate_races, gates_lowered, gates_raised, gates_taken_over, parking,
        unparking,
    },
    idempotency::{idempotency_record_race, idempotency_records},
    identity::{awkward_ids, content_byte_for_byte, domains_never_mix},
    leases::{lease_race, leases, undrained_logs},
    logs::{
        allocation, closed_log, concurrent_allocation, entries, entries_in_pages, entry_race,
        expired_entries, heads_in_batches, heavy_pages,
    },
    presence::{announcements, presence_leases, presences_in_batches},
    reauthorize::reauthorization,
    sessions::{
        due_sessions, session_begin_race, session_begins, session_closes, session_doorbells,
        session_given_up_in_doubt, session_outbox, session_outbox_full, session_push_race,
        session_receiver_race, session_receivers, session_sender_race, session_senders,
    },
    signed::{refused_signed_tokens, signed_reauthorization, signed_registration, tokens_with_jti},
    tokens::{token_connections, tokens, tokens_in_pages},
};

/// Passes the names of all suites to the macro `$callback`, separated by spaces.
///
/// Each `name` is an `async fn testkit::contract::name(&store)` that is generic over the ports it needs:
///
/// ```
/// macro_rules! count { ($($suite:ident)*) => { [$(stringify!($suite)),*].len() } }
/// assert!(testkit::each_suite!(count) > 30);
/// ```
#[macro_export]
macro_rules! each_suite {
    ($callback:ident) => {
        $callback! {
            tokens tokens_in_pages token_connections
            endings expiry_checkpoint
            signed_registration refused_signed_tokens tokens_with_jti signed_reauthorization
            registration refused_registration reauthorization forgetting connections_in_batches
            gates_raised parking unparking gates_lowered first_gate_lowered gates_taken_over gate_races
            announcements presence_leases presences_in_batches
            allocation concurrent_allocation closed_log heads_in_batches
            entries entries_in_pages heavy_pages expired_entries entry_race
            idempotency_records idempotency_record_race leases lease_race undrained_logs
            direct_conversation direct_read_cursors conversations_in_pages
            created_channel members_in_pages seniors memberships_in_pages invitations
            channels_in_batches read_cursors_of_members
            change_moves_members change_is_atomic changes_exclude_each_other tombstones_end
            session_begins session_begin_race session_given_up_in_doubt session_receivers session_receiver_race
            session_senders session_sender_race
            session_outbox session_push_race session_outbox_full session_closes session_doorbells due_sessions
            domains_never_mix awkward_ids content_byte_for_byte
        }
    };
}
