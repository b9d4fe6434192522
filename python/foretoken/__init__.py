"""This is the public API of foretoken."""

from . import codec as codec
from . import kernels as kernels
from . import layouts as layouts
from . import ops as ops
from .canvas import Canvas as Canvas
from .canvas import Stats as Stats
from .canvas import Step as Step
from .codec.patches import Film as Film
from .codec.patches import Patches as Patches
from .codec.pixels import Pixels as Pixels
from .codec.samples import Samples as Samples
from .codec.sound_codes import SoundCodes as SoundCodes
from .codec.text import Text as Text
from .drafter.block import BlockDrafter as BlockDrafter
from .drafter.costs import Adaptive as Adaptive
from .drafter.lookup import NGram as NGram
from .drafter.lookup import Suffix as Suffix
from .drafter.masked import MaskedDrafter as MaskedDrafter
from .drafter.protocol import Draft as Draft
from .drafter.several import Several as Several
from .drafter.small_model import EarlyExit as EarlyExit
from .drafter.small_model import SmallModel as SmallModel
from .errors import ForetokenError as ForetokenError
from .generate import agenerate as agenerate
from .generate import astream as astream
from .generate import generate as generate
from .generate import stream as stream
from .generation import Generation as Generation
from .hub import load as load
from .hub import path as path
from .hub import small_model as small_model
from .huggingface_generate import hf_generate as hf_generate
from .kernels import SuffixCorpus as SuffixCorpus
from .model.huggingface import HuggingFace as HuggingFace
from .model.llama_session import Llama as Llama
from .model.native import Native as Native
from .pipeline import Pipeline as Pipeline
from .sampler import Sampler as Sampler
from .strategy.autoregressive import Autoregressive as Autoregressive
from .strategy.verifier import Coupled as Coupled
from .strategy.verifier import Rejection as Rejection

__version__ = "0.1.0"
