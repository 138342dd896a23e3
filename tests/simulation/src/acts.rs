//! The actions of clients, in two parts: [`messages`] and [`life`].

mod life;
mod messages;
