//! Reads of many items: paged queries and batches.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{
    operation::{batch_get_item::BatchGetItemInput, query::QueryInput},
    types::{AttributeValue, KeysAndAttributes, Select},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use service::ports::Fault;

use crate::{
    DynamoStore,
    client::Repeat,
    fault::fault,
    keys::{Collection, Item, Key, Table},
    requests::pause,
    write::{fixed_names, text},
};

/// The maximum of keys in one BatchGetItem
/// (docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html, 2026-08).
const BATCH: usize = 100;
/// The maximum of concurrent batches.
const BATCHES_AT_ONCE: usize = 4;
/// The number of rounds without any item after which a batch gives up: about two seconds of throttling only.
const FRUITLESS: u32 = 8;
/// The largest page while a query skips expired items: about as many as fit into a query's 1 MB.
const STRIDE: usize = 1_000;

/// The rest of a query after the items that it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// More live items.
    More,
    Nothing,
    /// Expired items. Ascending, a whole page had expired. Descending, all remaining items have expired.
    Expired,
}

/// A query of one partition.
pub(crate) struct Query<'a> {
    pub(crate) table: Table,
    /// The index to query. Its reads are eventually consistent.
    pub(crate) index: Option<&'static str>,
    pub(crate) condition: &'a str,
    /// The attributes to read. `None` reads all.
    pub(crate) projection: Option<&'static str>,
    pub(crate) values: Vec<(&'static str, AttributeValue)>,
    /// The key to start after. For an index it includes the index's own key attributes.
    pub(crate) after: Option<Item>,
    pub(crate) ascending: bool,
}

impl DynamoStore {
    /// Returns the first `limit` live items of a query, and true if there are more.
    pub(crate) async fn query(
        &self,
        pattern: &'static str,
        query: Query<'_>,
        limit: usize,
    ) -> Result<(Vec<Item>, bool), Fault> {
        let (found, rest) = self.query_until(pattern, query, limit, false).await?;
        Ok((found, rest == Rest::More))
    }

    /// Returns the first `limit` live items of a query, and what follows them. With `stops` the query ends at expired
    /// items instead of skipping them. Use it only where items expire in the order of their sort keys.
    pub(crate) async fn query_until(
        &self,
        pattern: &'static str,
        query: Query<'_>,
        limit: usize,
        stops: bool,
    ) -> Result<(Vec<Item>, Rest), Fault> {
        // One item more than the limit shows if there are more.
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
            // DynamoDB deletes expired items only within days. Each page with expired items makes the next page larger.
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

    /// Returns the first `limit` items of a collection after the item named `after`, and true if there are more.
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

    /// Returns the number of items in a collection.
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

    /// Reads many items with strong consistency. Returns them by the caller's own keys, without the absent ones.
    pub(crate) async fn batch<K: Ord + Clone>(
        &self,
        pattern: &'static str,
        wanted: impl IntoIterator<Item = (K, Key)>,
    ) -> Result<BTreeMap<K, Item>, Fault> {
        // A map by key, because a batch must not contain a key twice.
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
                key.ok_or_else(|| Fault::Corrupt("item that was not requested".to_owned()))?;
            if self.is_live(&item) {
                items.insert(key.clone(), item);
            }
        }
        Ok(items)
    }

    /// Reads one batch, and requests the keys that DynamoDB left unprocessed again.
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
                .map_err(|_| Fault::Corrupt("batch without keys".to_owned()))?;
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
