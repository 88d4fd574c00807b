//! The actions that policy and authorizer decide about.

/// An action in a room. The rules are the same for all actions; an authorizer is told which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To be a member, or to stay one with another token.
    Join,
    /// To read the history.
    Missed,
}

impl Action {
    /// The action's name for an authorizer.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Missed => "missed",
        }
    }
}
