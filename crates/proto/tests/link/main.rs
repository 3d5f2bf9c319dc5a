//! Two links over conditioned paths, in virtual time: what a link promises, from the outside.

mod hostile;
mod life;
mod messages;
mod pair;
mod path;
