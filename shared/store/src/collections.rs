//! Reads of many items: queries in pages, and batches.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{
    operation::{batch_get_item::BatchGetItemInput, query::QueryInput},
    types::{AttributeValue, KeysAndAttributes, Select},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use service::ports::Fault;

use crate::{
    DynamoStore,
    fault::fault,
    keys::{Collection, Item, Key, Table},
    requests::{Repeat, pause},
    write::{fixed_names, text},
};

/// Keys of one BatchGetItem
/// (docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html, 2026-08).
const BATCH: usize = 100;
/// Batches under way at the same time.
const BATCHES_AT_ONCE: usize = 4;
/// Rounds without any item before a batch gives up: about two seconds of nothing but throttling.
const FRUITLESS: u32 = 8;
/// Items at most of a page on the way past what has expired: about as many as a query's 1 MB holds.
const STRIDE: usize = 1_000;

/// What comes after the items that a query found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// More of them.
    More,
    /// Nothing.
    Nothing,
    /// What has expired: a page of nothing else, or downwards all that is left.
    Expired,
}

/// A query of one partition.
pub(crate) struct Query<'a> {
    pub(crate) table: Table,
    /// The index; such reads are eventually consistent.
    pub(crate) index: Option<&'static str>,
    pub(crate) condition: &'a str,
    /// The attributes that are wanted; all without.
    pub(crate) projection: Option<&'static str>,
    pub(crate) values: Vec<(&'static str, AttributeValue)>,
    /// The key to start after, in an index with the index's own attributes.
    pub(crate) after: Option<Item>,
    pub(crate) ascending: bool,
}

impl DynamoStore {
    /// The first `limit` items that a query finds, and whether there are more. What is past its time to live is absent.
    pub(crate) async fn query(
        &self,
        pattern: &'static str,
        query: Query<'_>,
        limit: usize,
    ) -> Result<(Vec<Item>, bool), Fault> {
        let (found, rest) = self.query_until(pattern, query, limit, false).await?;
        Ok((found, rest == Rest::More))
    }

    /// The same, and with `stops`, where items expire in their order, not on into what has expired.
    pub(crate) async fn query_until(
        &self,
        pattern: &'static str,
        query: Query<'_>,
        limit: usize,
        stops: bool,
    ) -> Result<(Vec<Item>, Rest), Fault> {
        let wanted = limit.saturating_add(1);
        let names = match query.projection {
            Some(projection) => fixed_names(&format!("{}, {projection}", query.condition)),
            None => fixed_names(query.condition),
        };
        let mut found = Vec::new();
        let mut start = query.after;
        let mut page = wanted;
        loop {
            let input = QueryInput::builder()
                .table_name(self.table(query.table))
                .set_index_name(query.index.map(str::to_owned))
                .consistent_read(query.index.is_none())
                .key_condition_expression(query.condition)
                .set_projection_expression(query.projection.map(str::to_owned))
                .set_expression_attribute_names(Some(names.clone()))
                .set_expression_attribute_values(Some(values(&query.values)))
                .set_exclusive_start_key(start)
                .scan_index_forward(query.ascending)
                .limit(i32::try_from(page).unwrap_or(i32::MAX))
                .set_return_consumed_capacity(self.measured())
                .build();
            let sent = self.client.send(input, Repeat::Safe).await;
            let output = sent.map_err(|failure| fault(&failure))?;
            self.meter(pattern, output.consumed_capacity.as_slice());
            let items = output.items.unwrap_or_default();
            let (read, before) = (items.len(), found.len());
            found.extend(items.into_iter().filter(|item| self.is_live(item)));
            if found.len() >= wanted {
                found.truncate(limit);
                return Ok((found, Rest::More));
            }
            match output.last_evaluated_key {
                Some(last) if !last.is_empty() => start = Some(last),
                _ => return Ok((found, Rest::Nothing)),
            }
            // DynamoDB deletes what has expired within days: a stretch of that is crossed in ever larger steps.
            let expired = read - (found.len() - before);
            if stops && expired > 0 && (expired == read || !query.ascending) {
                return Ok((found, Rest::Expired));
            }
            page = if expired > 0 && !stops {
                page.saturating_mul(4).min(STRIDE)
            } else {
                wanted - found.len()
            };
        }
    }

    /// A page of a collection after the one that is named `after`.
    pub(crate) async fn page(
        &self,
        pattern: &'static str,
        collection: &Collection,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Item>, bool), Fault> {
        let condition = begins(collection.table);
        let query = Query {
            table: collection.table,
            index: None,
            condition: &condition,
            projection: collection.projection,
            values: vec![
                (":partition", text(collection.partition.as_str())),
                (":prefix", text(collection.prefix)),
            ],
            after: after.map(|name| collection.at(name).attributes()),
            ascending: true,
        };
        self.query(pattern, query, limit).await
    }

    /// How many items a collection has.
    pub(crate) async fn count(
        &self,
        pattern: &'static str,
        collection: &Collection,
    ) -> Result<usize, Fault> {
        let condition = begins(collection.table);
        let mut count = 0_usize;
        let mut start = None;
        loop {
            let input = QueryInput::builder()
                .table_name(self.table(collection.table))
                .consistent_read(true)
                .select(Select::Count)
                .key_condition_expression(&condition)
                .set_expression_attribute_names(Some(fixed_names(&condition)))
                .expression_attribute_values(":partition", text(collection.partition.as_str()))
                .expression_attribute_values(":prefix", text(collection.prefix))
                .set_exclusive_start_key(start)
                .set_return_consumed_capacity(self.measured())
                .build();
            let sent = self.client.send(input, Repeat::Safe).await;
            let output = sent.map_err(|failure| fault(&failure))?;
            self.meter(pattern, output.consumed_capacity.as_slice());
            count = count.saturating_add(usize::try_from(output.count).unwrap_or(0));
            match output.last_evaluated_key {
                Some(last) if !last.is_empty() => start = Some(last),
                _ => return Ok(count),
            }
        }
    }

    /// Reads many items, strongly consistent, by what they are wanted for; the absent ones are missing.
    pub(crate) async fn batch<K: Ord + Clone>(
        &self,
        pattern: &'static str,
        wanted: impl IntoIterator<Item = (K, Key)>,
    ) -> Result<BTreeMap<K, Item>, Fault> {
        // By key: a batch must not name one twice.
        let wanted: BTreeMap<Key, K> = wanted.into_iter().map(|(k, key)| (key, k)).collect();
        let Some(table) = wanted.keys().next().map(|key| key.table) else {
            return Ok(BTreeMap::new());
        };
        let keys: Vec<&Key> = wanted.keys().collect();
        let found: Vec<Vec<Item>> = stream::iter(keys.chunks(BATCH))
            .map(|chunk| {
                let keys = chunk.iter().map(|key| key.attributes()).collect();
                self.batch_of(pattern, table, keys)
            })
            .buffer_unordered(BATCHES_AT_ONCE)
            .try_collect()
            .await?;
        let mut items = BTreeMap::new();
        for item in found.into_iter().flatten() {
            let key = Key::of(table, &item).and_then(|key| wanted.get(&key));
            let key =
                key.ok_or_else(|| Fault::Corrupt("an item that was not asked for".to_owned()))?;
            if self.is_live(&item) {
                items.insert(key.clone(), item);
            }
        }
        Ok(items)
    }

    /// One batch to its end: what DynamoDB left unprocessed is asked for again.
    async fn batch_of(
        &self,
        pattern: &'static str,
        table: Table,
        mut keys: Vec<Item>,
    ) -> Result<Vec<Item>, Fault> {
        let name = self.table(table);
        let mut found = Vec::new();
        let mut fruitless = 0;
        loop {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(true)
                .build()
                .map_err(|_| Fault::Corrupt("a batch without keys".to_owned()))?;
            let input = BatchGetItemInput::builder()
                .request_items(name, request)
                .set_return_consumed_capacity(self.measured())
                .build();
            let sent = self.client.send(input, Repeat::Safe).await;
            let output = sent.map_err(|failure| fault(&failure))?;
            self.meter(pattern, output.consumed_capacity());
            let items: Vec<Item> = output
                .responses
                .unwrap_or_default()
                .into_values()
                .flatten()
                .collect();
            fruitless = if items.is_empty() { fruitless + 1 } else { 0 };
            found.extend(items);
            keys = output
                .unprocessed_keys
                .unwrap_or_default()
                .into_values()
                .flat_map(|rest| rest.keys)
                .collect();
            if keys.is_empty() {
                return Ok(found);
            }
            if fruitless >= FRUITLESS {
                return Err(Fault::Refused("UnprocessedKeys".to_owned()));
            }
            pause(fruitless + 1).await;
        }
    }
}

fn begins(table: Table) -> String {
    let (partition, sort) = table.attributes();
    format!("#{partition} = :partition AND begins_with(#{sort}, :prefix)")
}

fn values(
    values: &[(&'static str, AttributeValue)],
) -> std::collections::HashMap<String, AttributeValue> {
    values
        .iter()
        .map(|(placeholder, value)| ((*placeholder).to_owned(), value.clone()))
        .collect()
}
