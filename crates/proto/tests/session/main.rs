//! How sessions behave together: many of them over simulated links, in virtual time.

mod game;
mod properties;
mod rooms;
mod support;
mod worlds;
