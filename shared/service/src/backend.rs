//! What a back end asks and does, by the same core as clients.

use protocol::{Subscriber, model::Presence};
use serde_json::{Value, json};

use crate::{
    Service, Store,
    ports::{Environment, Fault, Pushes, Workers},
};

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// A subscriber's connections and its presence as others see it.
    ///
    /// # Errors
    /// A fault of the store.
    ///
    /// # Cost
    /// Two strongly consistent reads of one unit for each 4 KiB.
    pub async fn subscriber(&self, subscriber: &Subscriber) -> Result<Value, Fault> {
        let (connections, presence) = futures::try_join!(
            self.store.connections(subscriber),
            self.store.presence(subscriber),
        )?;
        let connections: Vec<Value> = connections
            .iter()
            .map(|(id, it)| json!({"id": id, "since": it.since, "ends-at": it.ends_at}))
            .collect();
        Ok(json!({
            "domain": subscriber.domain,
            "subscriber-id": subscriber.id,
            "connections": connections,
            "presence": Presence::of(&subscriber.id, presence.effective()),
        }))
    }
}
