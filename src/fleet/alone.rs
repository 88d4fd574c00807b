//! A node alone: there is no other to tell, to count or to ask. Its copy of what is revoked is the list.

use async_trait::async_trait;
use hallway_rooms::key::Room;
use hallway_rooms::revocation::SubjectHash;

use super::control::{NotedRevocation, RevocationList};
use super::{Fleet, KickResult, Unavailable, UserCount};

/// See the module.
#[derive(Debug)]
pub struct Alone {
    control: RevocationList,
}

impl Alone {
    /// A fleet of one node, which notes `revocations` at the most (`limits.revocations`).
    #[must_use]
    pub fn new(revocations: usize) -> Self {
        Self { control: RevocationList::new(revocations, true) }
    }
}

#[async_trait]
impl Fleet for Alone {
    async fn announce_sizes(&self, _: &[(Room, usize)]) -> Result<(), Unavailable> {
        Ok(())
    }

    fn forget_count(&self) -> u64 {
        0
    }

    async fn members_elsewhere(&self, _: &Room) -> Result<usize, Unavailable> {
        Ok(0)
    }

    async fn count_users(&self, counts: &[UserCount]) -> Result<Vec<Option<usize>>, Unavailable> {
        Ok(vec![Some(0); counts.len()])
    }

    fn control(&self) -> &RevocationList {
        &self.control
    }

    async fn announce_revocation(&self, _: &NotedRevocation) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn kick_elsewhere(&self, _: SubjectHash) -> Result<KickResult, Unavailable> {
        Ok(KickResult { sockets: 0, complete: true })
    }

    async fn answer_kick(&self, _: &str, _: usize) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn leave_fleet(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}
