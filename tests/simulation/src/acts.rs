//! What clients do, whose parts are: [`messages`], [`life`].

mod life;
mod messages;
