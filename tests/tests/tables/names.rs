//! The names of a template's tables.

use local_gateway::template::Template;
use store::Tables;

/// Returns all table names. The name of a table that the template does not have is empty.
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
