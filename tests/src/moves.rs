//! Client actions that many tests share.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{Client, Frame};

/// The invite token of the channels that [`Client::create`] creates.
const INVITE: &str = "s3cret";

impl Client {
    /// Creates a channel that [`Client::join`] can join. Returns its id.
    ///
    /// # Errors
    /// Fails if the request is rejected.
    pub async fn create(&mut self) -> Result<String> {
        let message = json!({ "type": "create-channel", "name": "Team", "invite-token": INVITE });
        self.request(message).await?.text_of("channel-id")
    }

    /// Joins a channel. Returns the sequence of the client's first position.
    ///
    /// # Errors
    /// Fails if the request is rejected.
    pub async fn join(&mut self, channel: &str) -> Result<u64> {
        let message =
            json!({ "type": "join-channel", "channel-id": channel, "invite-token": INVITE });
        self.request(message).await?.number("sequence")
    }

    /// Leaves a channel.
    ///
    /// # Errors
    /// Fails if the request is rejected.
    pub async fn leave(&mut self, channel: &str) -> Result<Frame> {
        self.request(json!({ "type": "leave-channel", "channel-id": channel }))
            .await
    }

    /// Sends a channel message. Returns its `delivery`.
    ///
    /// # Errors
    /// Fails if the request is rejected.
    pub async fn say(&mut self, channel: &str, content: &Value) -> Result<Frame> {
        let message =
            json!({ "type": "channel-message", "channel-id": channel, "content": content });
        let delivery = self.request(message).await?;
        ensure!(delivery["status"] == "stored", "{}", delivery.text);
        Ok(delivery)
    }

    /// Sends a direct message. Returns its `delivery`.
    ///
    /// # Errors
    /// Fails if the request is rejected.
    pub async fn tell(&mut self, peer: &str, content: &Value) -> Result<Frame> {
        let message =
            json!({ "type": "direct-message", "subscriber-id": peer, "content": content });
        let delivery = self.request(message).await?;
        ensure!(delivery["status"] == "stored", "{}", delivery.text);
        Ok(delivery)
    }

    /// Returns all events of a destination, such as `{"channel-id": "c"}`. Reads page by page.
    ///
    /// # Errors
    /// Fails if a page is rejected, or if the pages have gaps or overlap.
    pub async fn whole_history(&mut self, destination: &Value) -> Result<Vec<Value>> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let mut message = json!({ "type": "get-history", "after": events.len(), "limit": 100 });
            if let (Some(message), Some(destination)) =
                (message.as_object_mut(), destination.as_object())
            {
                message.extend(destination.clone());
            }
            let page = self.request(message).await?;
            let more = page["more"] == true;
            ensure!(
                !more || !page.list("events")?.is_empty(),
                "an empty page with `more`"
            );
            for event in page.list("events")? {
                events.push(event.clone());
                let sequence = event.get("sequence").and_then(Value::as_u64);
                ensure!(
                    sequence == u64::try_from(events.len()).ok(),
                    "a gap: {}",
                    page.text
                );
            }
            if !more {
                let last = usize::try_from(page.number("last-sequence")?)?;
                ensure!(
                    last == events.len(),
                    "the history ends early: {}",
                    page.text
                );
                return Ok(events);
            }
        }
    }

    /// Waits for the next push of a destination and applies the protocol's rule for clients to it. Returns the events after
    /// `position` that are then known. Reads missing events from the history.
    ///
    /// # Errors
    /// Fails if no push arrives or the history cannot be read.
    pub async fn follow(&mut self, destination: &Value, position: u64) -> Result<Vec<Value>> {
        let push = self.push().await?;
        let fields = destination.as_object().into_iter().flatten();
        for (name, value) in fields {
            ensure!(
                push[name.as_str()] == *value,
                "another destination: {}",
                push.text
            );
        }
        if push["type"] != "resync" {
            match push.number("sequence")? {
                known if known <= position => return Ok(Vec::new()),
                next if next == position + 1 => return Ok(vec![push.json]),
                _ => {}
            }
        }
        let skipped = usize::try_from(position)?;
        let history = self.whole_history(destination).await?;
        Ok(history.into_iter().skip(skipped).collect())
    }
}
