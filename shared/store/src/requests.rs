//! Single-item requests and transactions, of which every access pattern consists.

use core::time::Duration;

use aws_sdk_dynamodb::{
    operation::{
        delete_item::{DeleteItemError, DeleteItemInput},
        get_item::GetItemInput,
        put_item::{PutItemError, PutItemInput},
        transact_write_items::{TransactWriteItemsError, TransactWriteItemsInput},
        update_item::{UpdateItemError, UpdateItemInput},
    },
    types::{ConsumedCapacity, ReturnValue},
};
use serde::de::DeserializeOwned;
use service::ports::Fault;

use crate::{
    DynamoStore,
    client::{Failure, Repeat},
    fault::fault,
    keys::{Item, Key},
    write::{Action, Write},
};

/// Attempts at a write that conflicts with another transaction, including the first. A conflicting write definitely did
/// not happen.
pub(crate) const TURNS: u32 = 5;

/// The outcome of a conditional write.
#[derive(Debug)]
pub(crate) enum Written {
    /// The write happened. Contains the requested attributes.
    Done(Item),
    /// The condition failed. Contains the existing item, if there is one.
    Stood(Option<Item>),
}

/// A cancelled transaction. For each part: true if its condition failed, and the existing item.
#[derive(Debug)]
pub(crate) struct Cancelled(Vec<(bool, Option<Item>)>);

impl Cancelled {
    /// Returns the existing item if the condition of the part at `index` failed, and `None` if it held.
    pub(crate) fn stood(&self, index: usize) -> Option<Option<&Item>> {
        let (failed, item) = self.0.get(index)?;
        failed.then_some(item.as_ref())
    }
}

impl DynamoStore {
    /// Reads and decodes one item with strong consistency. An item past its time to live is absent.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        pattern: &'static str,
        key: &Key,
        what: &'static str,
    ) -> Result<Option<T>, Fault> {
        let item = self.item(pattern, key).await?;
        item.map(|item| decode(item, what)).transpose()
    }

    /// Reads one item like [`Self::get`], without decoding it.
    pub(crate) async fn item(
        &self,
        pattern: &'static str,
        key: &Key,
    ) -> Result<Option<Item>, Fault> {
        let input = GetItemInput::builder()
            .table_name(self.table(key.table))
            .set_key(Some(key.attributes()))
            .consistent_read(true)
            .set_return_consumed_capacity(self.measured())
            .build();
        let sent = self.client.send(input, Repeat::Safe).await;
        let output = sent.map_err(|failure| fault(&failure))?;
        self.meter(pattern, output.consumed_capacity.as_slice());
        Ok(output.item.filter(|item| self.is_live(item)))
    }

    /// Executes one write.
    pub(crate) async fn write(
        &self,
        pattern: &'static str,
        write: &Write,
        returns: ReturnValue,
        repeat: Repeat,
    ) -> Result<Written, Fault> {
        let mut turn = 0;
        loop {
            turn += 1;
            match self.write_once(pattern, write, &returns, repeat).await {
                // A failed condition is `Written::Stood`, so this conflict is with a transaction.
                Err(Fault::Conflict) if turn < TURNS => pause(turn).await,
                done => return done,
            }
        }
    }

    async fn write_once(
        &self,
        pattern: &'static str,
        write: &Write,
        returns: &ReturnValue,
        repeat: Repeat,
    ) -> Result<Written, Fault> {
        let table = self.table(write.key.table);
        let (attributes, consumed) = match &write.action {
            Action::Put(item) => {
                let input = PutItemInput::builder()
                    .table_name(table)
                    .set_item(Some(item.clone()))
                    .set_condition_expression(write.condition.clone())
                    .set_expression_attribute_names(write.names())
                    .set_expression_attribute_values(write.values())
                    .set_return_values_on_condition_check_failure(write.on_failure())
                    .set_return_consumed_capacity(self.measured())
                    .build();
                match self.client.send(input, repeat).await {
                    Ok(output) => (output.attributes, output.consumed_capacity),
                    Err(Failure::Service(
                        PutItemError::ConditionalCheckFailedException(failed),
                        _,
                    )) => return Ok(Written::Stood(failed.item)),
                    Err(failure) => return Err(fault(&failure)),
                }
            }
            Action::Update(update) => {
                let input = UpdateItemInput::builder()
                    .table_name(table)
                    .set_key(Some(write.key.attributes()))
                    .update_expression(update)
                    .set_condition_expression(write.condition.clone())
                    .set_expression_attribute_names(write.names())
                    .set_expression_attribute_values(write.values())
                    .set_return_values_on_condition_check_failure(write.on_failure())
                    .return_values(returns.clone())
                    .set_return_consumed_capacity(self.measured())
                    .build();
                match self.client.send(input, repeat).await {
                    Ok(output) => (output.attributes, output.consumed_capacity),
                    Err(Failure::Service(
                        UpdateItemError::ConditionalCheckFailedException(failed),
                        _,
                    )) => return Ok(Written::Stood(failed.item)),
                    Err(failure) => return Err(fault(&failure)),
                }
            }
            Action::Delete | Action::Check => {
                let input = DeleteItemInput::builder()
                    .table_name(table)
                    .set_key(Some(write.key.attributes()))
                    .set_condition_expression(write.condition.clone())
                    .set_expression_attribute_names(write.names())
                    .set_expression_attribute_values(write.values())
                    .set_return_values_on_condition_check_failure(write.on_failure())
                    .set_return_consumed_capacity(self.measured())
                    .build();
                match self.client.send(input, repeat).await {
                    Ok(output) => (output.attributes, output.consumed_capacity),
                    Err(Failure::Service(
                        DeleteItemError::ConditionalCheckFailedException(failed),
                        _,
                    )) => return Ok(Written::Stood(failed.item)),
                    Err(failure) => return Err(fault(&failure)),
                }
            }
        };
        self.meter(pattern, consumed.as_slice());
        Ok(Written::Done(attributes.unwrap_or_default()))
    }

    /// Executes all writes or none. Retries after an unknown outcome carry the same token, so that DynamoDB executes the
    /// transaction once.
    pub(crate) async fn transact(
        &self,
        pattern: &'static str,
        writes: &[Write],
    ) -> Result<Result<(), Cancelled>, Fault> {
        let parts = writes
            .iter()
            .map(|write| write.in_transaction(self.table(write.key.table)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Fault::Corrupt("transaction cannot be serialized".to_owned()))?;
        let mut turn = 0;
        loop {
            turn += 1;
            let input = TransactWriteItemsInput::builder()
                .set_transact_items(Some(parts.clone()))
                .client_request_token(token())
                .set_return_consumed_capacity(self.measured())
                .build();
            let cancelled = match self.client.send(input, Repeat::Safe).await {
                Ok(output) => {
                    self.meter(pattern, output.consumed_capacity());
                    return Ok(Ok(()));
                }
                Err(Failure::Service(
                    TransactWriteItemsError::TransactionCanceledException(cancelled),
                    _,
                )) => cancelled,
                Err(failure) => return Err(fault(&failure)),
            };
            // The transaction was cancelled: sort the reasons into failed conditions, conflicts and refusals.
            let mut in_the_way = false;
            let mut refused = None;
            let mut parts = Vec::new();
            for reason in cancelled.cancellation_reasons() {
                let failed = match reason.code() {
                    Some("ConditionalCheckFailed") => true,
                    Some("TransactionConflict") => {
                        in_the_way = true;
                        false
                    }
                    None | Some("None") => false,
                    // The item would become too large, as in a single write. A retry does not help.
                    Some(code @ "ValidationError") => return Err(Fault::Corrupt(code.to_owned())),
                    Some(other) => {
                        refused = Some(other.to_owned());
                        false
                    }
                };
                parts.push((failed, reason.item.clone()));
            }
            // A failed condition is the answer, whatever the reasons of the other parts are.
            if parts.iter().any(|(failed, _)| *failed) {
                return Ok(Err(Cancelled(parts)));
            }
            if let Some(code) = refused {
                return Err(Fault::Refused(code));
            }
            if !in_the_way || turn >= TURNS {
                return Err(Fault::Conflict);
            }
            pause(turn).await;
        }
    }

    /// Executes a transaction like [`Self::transact`], where the parts at `good` check that a token is valid. Returns
    /// false if one of these checks failed.
    pub(crate) async fn transact_under(
        &self,
        pattern: &'static str,
        writes: &[Write],
        good: [usize; 2],
    ) -> Result<bool, Fault> {
        match self.transact(pattern, writes).await? {
            Ok(()) => Ok(true),
            Err(cancelled) if good.iter().any(|it| cancelled.stood(*it).is_some()) => Ok(false),
            Err(_) => Err(Fault::Conflict),
        }
    }

    /// Reports the consumed capacity to the meter, if there is one.
    pub(crate) fn meter(&self, pattern: &'static str, consumed: &[ConsumedCapacity]) {
        if let Some(meter) = &self.meter {
            let units = consumed.iter().filter_map(|it| it.capacity_units).sum();
            meter(pattern, units);
        }
    }
}

/// Returns a new transaction token: at most 36 characters, unique for ten minutes
/// (docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html, 2026-11). It comes from the
/// system's generator, because generators seeded by the clock may start alike in functions that start together.
#[expect(
    clippy::expect_used,
    reason = "with a non-random token DynamoDB may take another transaction for ours; Lambda replaces the sandbox after a panic"
)]
fn token() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system's random generator answers");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

/// Waits before another attempt: 10, 20, 40 … ms, at most half a second.
pub(crate) async fn pause(turn: u32) {
    let millis = 10_u64.saturating_mul(1 << turn.saturating_sub(1).min(6));
    tokio::time::sleep(Duration::from_millis(millis.min(500))).await;
}

/// Decodes an item. A fault contains only `what`, never the item.
pub(crate) fn decode<T: DeserializeOwned>(item: Item, what: &'static str) -> Result<T, Fault> {
    serde_dynamo::aws_sdk_dynamodb_1::from_item(item).map_err(|_| Fault::Corrupt(what.to_owned()))
}
