//! What the fuzz targets need of the wire: the follower, which is private otherwise.

use super::follower;

/// A [`follower::StreamFollower`] that a fuzz target can drive.
#[derive(Debug)]
pub struct FuzzedFollower(follower::StreamFollower);

impl FuzzedFollower {
    /// Makes a follower that searches for `nonce` and captures `capture` leading bytes of each text message.
    #[must_use]
    pub fn armed(nonce: &str, capture: usize) -> Self {
        let mut follower = follower::StreamFollower::new();
        follower.arm_nonce(nonce);
        follower.set_capture(capture);
        Self(follower)
    }

    /// Consumes bytes and gives the leading bytes of each text message that they complete.
    pub fn follow(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut texts = Vec::new();
        self.0.follow_bytes(bytes, |text| texts.push(text.to_vec()));
        texts
    }

    /// Whether a frame of Hallway may begin here.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.0.at_boundary()
    }

    /// Whether the head of the upgrade has passed and the frames have not ended.
    #[must_use]
    pub fn is_framing(&self) -> bool {
        self.0.is_framing()
    }

    /// Whether no frame of Hallway can ever follow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }
}
