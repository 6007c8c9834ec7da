//! Numbers for tests that try many orders of things; the same for the same seed.
#![allow(dead_code)] // each test file uses its own part

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// 0 to under `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// `bytes` in pieces, cut anywhere; now and then an empty one, or each byte by itself.
    pub fn cut<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let longest = [1, 2, 4, 9, 30][self.below(5)];
        let (mut pieces, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let least = usize::from(self.below(8) > 0);
            let (piece, after) = rest.split_at((least + self.below(longest)).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}
