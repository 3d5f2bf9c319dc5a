//! What is sent, where its bytes come from, and what they come down to.

use core::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{MAX_METADATA, MAX_NAME, Unsendable};

/// Something to send: a name, and bytes. Cheap to clone, so that many peers may be sent the same.
#[derive(Clone)]
pub struct Blob {
    pub(super) name: String,
    pub(super) metadata: Bytes,
    pub(super) content: Content,
    pub(super) digest: Option<Digest>,
}

impl Blob {
    /// These bytes, under this name, which has 1 to [`MAX_NAME`] bytes.
    pub fn new(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::of(name, Content::Bytes(bytes.into()))
    }

    /// What a source has, read chunk by chunk as it is sent. It is read once before that, for its digest, unless
    /// that is [known](Self::digest).
    pub fn from_source(name: impl Into<String>, source: impl Source) -> Self {
        Self::of(name, Content::Source(Arc::new(source)))
    }

    fn of(name: impl Into<String>, content: Content) -> Self {
        Self { name: name.into(), metadata: Bytes::new(), content, digest: None }
    }

    /// Says more of it to the receiver, before it decides: at most [`MAX_METADATA`] bytes, which mean what the game says.
    #[must_use]
    pub fn metadata(mut self, bytes: impl Into<Bytes>) -> Self {
        self.metadata = bytes.into();
        self
    }

    /// The digest, where it is known: this spares reading everything once before it is sent. With a wrong one, what
    /// arrives counts as damaged.
    #[must_use]
    pub const fn digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What else is said of it.
    pub const fn said(&self) -> &Bytes {
        &self.metadata
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.content.size()
    }

    /// Whether it can be offered at all.
    ///
    /// # Errors
    /// Its name or its metadata is too long.
    pub const fn check(&self) -> Result<(), Unsendable> {
        if self.name.is_empty() || self.name.len() > MAX_NAME {
            return Err(Unsendable::Name);
        }
        if self.metadata.len() > MAX_METADATA {
            return Err(Unsendable::Metadata);
        }
        Ok(())
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("name", &self.name).field("size", &self.size()).finish_non_exhaustive()
    }
}

/// Where the bytes of a blob are read from: a file, for example.
///
/// It is read where the links run, so it must answer at once: a file on a local disk does. What does not, is to be read
/// before, and sent as bytes.
pub trait Source: Send + Sync + 'static {
    /// How many bytes there are. It never changes.
    fn size(&self) -> u64;

    /// The bytes from this offset on: 1 to `most`, all within the size. The same each time.
    ///
    /// # Errors
    /// They cannot be read, and why, for a person to read: the blob fails.
    fn read(&self, offset: u64, most: usize) -> Result<Bytes, String>;
}

/// The bytes of a blob.
#[derive(Clone)]
pub(super) enum Content {
    Bytes(Bytes),
    Source(Arc<dyn Source>),
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Source(source) => source.size(),
        }
    }

    /// So many bytes from there on; fewer only where the blob ends.
    pub(super) fn read(&self, offset: u64, most: usize) -> Result<Bytes, String> {
        let left = self.size().saturating_sub(offset);
        let most = usize::try_from(left).unwrap_or(most).min(most);
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(bytes.len()).min(bytes.len());
                Ok(bytes.slice(from..from + most))
            }
            Self::Source(source) => {
                let mut bytes = read(&**source, offset, most)?;
                if bytes.len() < most {
                    let mut all = bytes.to_vec();
                    while all.len() < most {
                        all.extend_from_slice(&read(&**source, offset + all.len() as u64, most - all.len())?);
                    }
                    bytes = all.into();
                }
                Ok(bytes)
            }
        }
    }
}

fn read(source: &dyn Source, offset: u64, most: usize) -> Result<Bytes, String> {
    if most == 0 {
        return Ok(Bytes::new());
    }
    let bytes = source.read(offset, most)?;
    if bytes.is_empty() || bytes.len() > most {
        return Err(format!("{} bytes were read where 1 to {most} are due", bytes.len()));
    }
    Ok(bytes)
}

/// What bytes come down to, by SHA-256 (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.take(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest of what has come so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_256() {
        // FIPS 180-4's own example.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), digest);
    }

    #[test]
    fn what_is_read_is_within_the_blob() {
        let content = Content::Bytes(Bytes::from_static(b"0123456789"));
        assert_eq!(content.read(0, 4).unwrap(), "0123");
        assert_eq!(content.read(8, 4).unwrap(), "89");
        assert_eq!(content.read(10, 4).unwrap(), "");
        assert_eq!(content.read(99, 4).unwrap(), "");
    }

    #[test]
    fn a_source_that_gives_too_much_or_nothing_is_no_source() {
        struct Odd(usize);
        impl Source for Odd {
            fn size(&self) -> u64 {
                100
            }
            fn read(&self, _: u64, _: usize) -> Result<Bytes, String> {
                Ok(Bytes::from(vec![0; self.0]))
            }
        }
        for (bytes, most) in [(0, None), (1, Some(10)), (2, Some(10)), (10, Some(10)), (11, None)] {
            let read = Content::Source(Arc::new(Odd(bytes))).read(0, 10);
            assert_eq!(read.ok().map(|bytes| bytes.len()), most, "{bytes}");
        }
    }

    #[test]
    fn names_and_metadata_have_bounds() {
        assert_eq!(Blob::new("", "x").check(), Err(Unsendable::Name));
        assert_eq!(Blob::new("x".repeat(MAX_NAME + 1), "x").check(), Err(Unsendable::Name));
        assert_eq!(Blob::new("x", "x").metadata(vec![0; MAX_METADATA + 1]).check(), Err(Unsendable::Metadata));
        assert_eq!(Blob::new("x".repeat(MAX_NAME), "").metadata(vec![0; MAX_METADATA]).check(), Ok(()));
    }
}
