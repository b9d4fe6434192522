//! What can be wrong with pictures, films and their patches.

use crate::error::Kind;

/// One kind of mistake with pictures.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PictureError {
    /// A picture without pixels, or longer than pictures may be.
    #[error("picture {picture} is {height} × {width}: give sides in 1..={limit}")]
    Side {
        /// Its place in the list.
        picture: usize,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
        /// The longest side.
        limit: usize,
    },
    /// A picture that patches do not fill.
    #[error(
        "picture {picture} is {height} × {width}, which patches do not fill: resize, crop or pad it, \
         for example to {near_height} × {near_width}"
    )]
    Uneven {
        /// Its place in the list.
        picture: usize,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
        /// A height that they fill.
        near_height: usize,
        /// A width that they fill.
        near_width: usize,
    },
    /// A picture that is smaller than what is to be cut out of it.
    #[error(
        "picture {picture} is {height} × {width}, less than the crop of {crop_height} × {crop_width}: \
         resize it first, or crop less"
    )]
    Crop {
        /// Its place in the list.
        picture: usize,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
        /// The height that is to be cut out.
        crop_height: usize,
        /// The width that is to be cut out.
        crop_width: usize,
    },
    /// A film that tubelets do not fill.
    #[error("film {picture} has {given} frames for tubelets of {frames}: cut it, or let the last frame be repeated")]
    Frames {
        /// Its place in the list.
        picture: usize,
        /// How many it has.
        given: usize,
        /// How many a patch spans.
        frames: usize,
    },
    /// A picture with other channels than the first.
    #[error("picture {picture} has {given} channels, expected {expected}: convert it first")]
    Another {
        /// Its place in the list.
        picture: usize,
        /// How many it has.
        given: usize,
        /// How many it should have.
        expected: usize,
    },
    /// A list with an entry for each channel that has another number of them.
    #[error("{name} has {given} entries for {expected} channels: give one for each, or one for all")]
    Channels {
        /// The argument.
        name: &'static str,
        /// How many it has.
        given: usize,
        /// How many channels there are.
        expected: usize,
    },
    /// A pixel that is no number.
    #[error("{name} {index} holds NaN or infinity in place {place}: give finite numbers")]
    NotFinite {
        /// What it is in.
        name: &'static str,
        /// Which of them.
        index: usize,
        /// The first such place.
        place: usize,
    },
    /// A grid of patches that has none, or whose blocks are not whole.
    #[error(
        "grid {index} is {times} × {rows} × {columns}: give numbers above 0, multiples of {merge} but for the first"
    )]
    Grid {
        /// Its place in the list.
        index: usize,
        /// Tubelets.
        times: usize,
        /// Rows of patches.
        rows: usize,
        /// Columns of patches.
        columns: usize,
        /// What blocks are made of.
        merge: usize,
    },
    /// A film of more or fewer frames than its patches span.
    #[error("film {index} is to have {given} frames: its patches span {least} to {most}")]
    Length {
        /// Its place in the list.
        index: usize,
        /// What was asked for.
        given: usize,
        /// The least it can have.
        least: usize,
        /// The most it can have.
        most: usize,
    },
}

impl PictureError {
    /// The class of this mistake.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFinite { .. } => Kind::InvalidArgument,
            _ => Kind::Shape,
        }
    }
}
