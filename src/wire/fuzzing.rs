//! What the fuzz targets need of the wire: the follower, which nobody else may drive.

use super::follower;

/// [`follower::Follower`], to be driven from outside.
#[derive(Debug)]
pub struct Follower(follower::Follower);

impl Follower {
    /// One that looks for `nonce` and remembers so many leading bytes of each text.
    #[must_use]
    pub fn armed(nonce: &str, capture: usize) -> Self {
        let mut follower = follower::Follower::new();
        follower.arm(nonce);
        follower.capture(capture);
        Self(follower)
    }

    /// Takes bytes and gives the leading bytes of the texts that have passed with them.
    pub fn follow(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut texts = Vec::new();
        self.0.follow(bytes, |text| texts.push(text.to_vec()));
        texts
    }

    /// Whether a frame of ours may begin here.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.0.at_boundary()
    }

    /// Whether the head of the upgrade has passed and the frames have not ended.
    #[must_use]
    pub fn is_framing(&self) -> bool {
        self.0.is_framing()
    }

    /// Whether no frame of ours can ever follow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }
}
