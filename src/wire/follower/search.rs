//! The two searches before the first frame: for the nonce, and for the end of the head that contains it.

const HEAD_END: &[u8; 4] = b"\r\n\r\n";

/// Looks for the nonce in a stream that arrives in pieces.
#[derive(Debug)]
pub(super) struct Search {
    nonce: Box<[u8]>,
    /// What the pieces so far ended with: fewer bytes than the nonce has, so a match always ends in a new piece.
    tail: Vec<u8>,
}

impl Search {
    /// `nonce` must not be empty.
    pub(super) fn new(nonce: &[u8]) -> Self {
        Self { nonce: nonce.into(), tail: Vec::new() }
    }

    /// Consumes `rest` up to the end of the nonce, or all of it. True when the nonce has passed.
    pub(super) fn consume_to_nonce(&mut self, rest: &mut &[u8]) -> bool {
        let known = self.tail.len();
        self.tail.extend_from_slice(rest);
        let found = self.tail.windows(self.nonce.len()).position(|window| window == &*self.nonce);
        if let Some(start) = found {
            *rest = &rest[start + self.nonce.len() - known..];
            return true;
        }
        *rest = &[];
        let kept = self.tail.len().min(self.nonce.len() - 1);
        self.tail.drain(..self.tail.len() - kept);
        false
    }
}

/// Looks for the empty line that ends a head.
#[derive(Debug)]
pub(super) struct HeadEnd {
    matched: usize,
}

impl HeadEnd {
    pub(super) fn new() -> Self {
        Self { matched: 0 }
    }

    /// Consumes `rest` up to the end of the head, or all of it. True when the head has passed.
    pub(super) fn consume_to_end(&mut self, rest: &mut &[u8]) -> bool {
        while let Some((&byte, after)) = rest.split_first() {
            *rest = after;
            self.matched =
                if byte == HEAD_END[self.matched] { self.matched + 1 } else { usize::from(byte == HEAD_END[0]) };
            if self.matched == HEAD_END.len() {
                return true;
            }
        }
        false
    }
}
