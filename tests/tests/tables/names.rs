//! What the tables of a template are called.

use local_gateway::template::Template;
use store::Tables;

/// All of them; an empty name for what it does not have.
pub(crate) fn names(template: &Template) -> Tables {
    let name = |id: &str| {
        let table = template.tables.iter().find(|it| it.id == id);
        table.map_or_else(String::new, |it| it.name.clone())
    };
    Tables {
        tokens: name("Tokens"),
        subscribers: name("Subscribers"),
        channels: name("Channels"),
        events: name("Events"),
        sessions: name("Sessions"),
    }
}
