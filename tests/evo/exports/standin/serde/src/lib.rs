//! Stand-in: objects of optional numbers, which is all that a bundle reads.

pub use serde_derive::{Deserialize, Serialize};

pub trait Serialize {}

pub trait Deserialize: Sized {
    /// `number`: the number under a key, None where there is none or null. Unknown keys are never asked for.
    fn from_numbers(number: &dyn Fn(&str) -> Result<Option<f64>, String>) -> Result<Self, String>;
}
