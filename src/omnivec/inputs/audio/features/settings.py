"""The settings of front ends that published libraries and models use, by name.

Each was compared with the library or model it is named after; the tests say how closely they agree.
"""

from __future__ import annotations

from omnivec.inputs.audio.features.cepstra import Cepstra
from omnivec.inputs.audio.features.fixed_length import FixedFramesMel, FixedLengthMel, FusedMel
from omnivec.inputs.audio.features.frames import Frames, Padding
from omnivec.inputs.audio.features.mel_filters import MelFilters
from omnivec.inputs.audio.features.mel_patches import MelPatches, VoiceWindows
from omnivec.inputs.audio.features.mel_spectrogram import Log, MelSpectrogram
from omnivec.inputs.audio.features.window_functions import WindowName

INT16 = 32768.0
"""Factor from samples in [-1, 1] to the range of 16-bit integers."""

FLOAT64_EPSILON = 2.0**-52


def librosa_mel(
    rate: int = 22050,
    *,
    length: int = 2048,
    hop: int = 512,
    fft: int = 0,
    bands: int = 128,
    low: float = 0.0,
    high: float = 0.0,
    padding: Padding = "zeros",
) -> MelSpectrogram:
    """`librosa.power_to_db(librosa.feature.melspectrogram(...))`: log-mel in dB, at most 80 dB below the maximum.

    Args:
        rate: sampling rate in Hz.
        length: samples of the window (`win_length`).
        hop: samples between frames (`hop_length`).
        fft: points of the Fourier transform (`n_fft`); 0 for `length`.
        bands: number of filters (`n_mels`).
        low: lower edge of the filters in Hz (`fmin`).
        high: upper edge of the filters in Hz (`fmax`); 0 for half the rate.
        padding: `pad_mode`: "zeros" since librosa 0.10, "reflect" before.
    """
    return MelSpectrogram(
        frames=Frames(length=length, hop=hop, fft=fft or length, padding=padding),
        filters=MelFilters(rate=rate, bands=bands, low=low, high=high, scale="slaney", norm="area"),
        log=Log(base="dB", floor=1e-10, range=80.0),
    )


def librosa_mfcc(mel: MelSpectrogram, coefficients: int = 20, lifter: float = 0.0) -> Cepstra:
    """`librosa.feature.mfcc(..., norm="ortho")` of a spectrogram that `librosa_mel` describes."""
    return Cepstra(mel=mel, coefficients=coefficients, lifter=lifter, lifter_offset=1)


def kaldi_fbank(
    bands: int = 80,
    *,
    rate: int = 16000,
    window: WindowName = "povey",
    scale: float = INT16,
    low: float = 20.0,
    high: float = 0.0,
    centred: bool = False,
    shift: float = 0.0,
    divisor: float = 1.0,
) -> MelSpectrogram:
    """Kaldi's compute-fbank-feats and `torchaudio.compliance.kaldi.fbank` with `dither=0`: 25 ms every 10 ms.

    Args:
        bands: number of filters; Kaldi's default is 23.
        rate: sampling rate in Hz.
        window: window function.
        scale: factor of the samples: 32768 as in Kaldi, which reads 16-bit integers, or 1. The logarithm has a floor of
            1.19e-7, so that this is more than a constant added to the result.
        low: lower edge of the filters in Hz.
        high: upper edge of the filters in Hz; 0 for half the rate.
        centred: whether the mean over time is subtracted.
        shift: added to the result, after that.
        divisor: divides the result, after that.
    """
    return MelSpectrogram(
        frames=_kaldi_frames(rate, window, scale),
        filters=MelFilters(rate=rate, bands=bands, low=low, high=high, triangles="mel"),
        log=Log(),
        centred=centred,
        shift=shift,
        divisor=divisor,
    )


def kaldi_mfcc(
    coefficients: int = 13,
    *,
    rate: int = 16000,
    bands: int = 23,
    window: WindowName = "povey",
    scale: float = INT16,
    energy: bool = True,
) -> Cepstra:
    """Kaldi's compute-mfcc-feats and `torchaudio.compliance.kaldi.mfcc` with `dither=0`; lifter of 22.

    Args:
        coefficients: number of coefficients, index 0 included.
        rate: sampling rate in Hz.
        bands: number of filters.
        window: window function.
        scale: factor of the samples.
        energy: whether c_0 is replaced by the logarithm of the raw energy (`use_energy`).
    """
    return Cepstra(
        mel=kaldi_fbank(bands, rate=rate, window=window, scale=scale),
        coefficients=coefficients,
        lifter=22.0,
        zeroth="energy" if energy else "cepstrum",
    )


def _kaldi_frames(rate: int, window: WindowName, scale: float) -> Frames:
    """25 ms every 10 ms, the transform at the next power of two."""
    length = rate * 25 // 1000
    return Frames(
        length=length,
        hop=rate * 10 // 1000,
        fft=1 << (length - 1).bit_length(),
        window=window,
        scale=scale,
        remove_mean=True,
        preemphasis=0.97,
    )


def psf_fbank(bands: int = 26, *, rate: int = 16000, scale: float = INT16, fft: int = 512) -> MelSpectrogram:
    """`python_speech_features.logfbank`: rectangular window, power spectrum / `fft`, edges at FFT bins.

    Args:
        bands: number of filters.
        rate: sampling rate in Hz.
        scale: factor of the samples; 32768 if the library would be given 16-bit integers.
        fft: points of the Fourier transform.
    """
    return MelSpectrogram(
        frames=Frames(
            length=int(rate * 0.025 + 0.5),
            hop=int(rate * 0.01 + 0.5),
            fft=fft,
            window="rectangular",
            padding="end",
            scale=scale,
            preemphasis=0.97,
            emphasis="signal",
        ),
        filters=MelFilters(rate=rate, bands=bands, triangles="bins"),
        log=Log(floor=FLOAT64_EPSILON, by="zero"),
        factor=1 / fft,
    )


def psf_mfcc(mel: MelSpectrogram, coefficients: int = 13) -> Cepstra:
    """`python_speech_features.mfcc` of a spectrogram that `psf_fbank` describes: lifter of 22, c_0 the log energy."""
    return Cepstra(
        mel=mel,
        coefficients=coefficients,
        lifter=22.0,
        zeroth="spectrum energy",
    )


def htk_mfcc(coefficients: int = 12, *, rate: int = 16000, bands: int = 26, scale: float = INT16) -> Cepstra:
    """HTK's MFCC_0: Hamming window, magnitudes, floor of 1, lifter of 22; c_1 to c_12, then c_0.

    Args:
        coefficients: number of coefficients without c_0 (NUMCEPS).
        rate: sampling rate in Hz.
        bands: number of filters (NUMCHANS).
        scale: factor of the samples.
    """
    length = rate * 25 // 1000
    return Cepstra(
        mel=MelSpectrogram(
            frames=Frames(
                length=length,
                hop=rate * 10 // 1000,
                fft=1 << (length - 1).bit_length(),
                window="hamming symmetric",
                scale=scale,
                preemphasis=0.97,
            ),
            filters=MelFilters(rate=rate, bands=bands, triangles="mel"),
            log=Log(floor=1.0),
            magnitude=True,
        ),
        coefficients=coefficients + 1,
        lifter=22.0,
        zeroth_factor=2**0.5,
        zeroth_last=True,
    )


def speechbrain_fbank(bands: int = 80, *, centred: bool = True) -> MelSpectrogram:
    """SpeechBrain's `Fbank` at 16 kHz: dB, at most 80 dB below the maximum of the sound.

    Args:
        bands: number of filters: 80 for ECAPA-TDNN, 24 for the x-vector.
        centred: whether the mean over time is subtracted: `InputNormalization(norm_type="sentence", std_norm=False)`.
    """
    return MelSpectrogram(
        frames=Frames(length=400, hop=160, fft=400, window="hamming", padding="zeros"),
        filters=MelFilters(rate=16000, bands=bands, high=8000.0, triangles="left width"),
        log=Log(base="dB", floor=1e-10, range=80.0),
        centred=centred,
    )


def whisper(
    bands: int = 80, *, seconds: int = 30, cropped: bool = False, fft: int = 400, hop: int = 160
) -> FixedLengthMel:
    """Whisper's log-mel spectrogram at 16 kHz: 30 s, (log10 + 4) / 4, at most 8 below the maximum before that.

    Args:
        bands: number of filters (`feature_size`): 80, or 128 for large-v3.
        seconds: length that a sound is brought to (`chunk_length`).
        cropped: whether the rows of the padding are removed: ceil(n / hop) rows for n samples.
        fft: samples of a frame (`n_fft`).
        hop: samples between frames (`hop_length`).
    """
    return FixedLengthMel(
        mel=MelSpectrogram(
            frames=Frames(length=fft, hop=hop, fft=fft, padding="reflect", last=False, double=True),
            filters=MelFilters(rate=16000, bands=bands, high=8000.0, scale="slaney", norm="area"),
            log=Log(base="log10", floor=1e-10, range=8.0),
            shift=4.0,
            divisor=4.0,
        ),
        samples=seconds * 16000,
        cropped=cropped,
    )


def clap(
    *, fused: bool, low: float = 50.0, high: float = 14000.0, seconds: int = 10, bands: int = 64
) -> FixedLengthMel:
    """CLAP's log-mel spectrogram at 48 kHz: 10 s in dB; a shorter sound is repeated as often as it fits.

    Args:
        fused: True for models with feature fusion: four spectrograms of a longer sound, and HTK's scale without norm;
            False for one of its beginning, and Slaney's scale with filters of equal area.
        low: lower edge of the filters in Hz (`frequency_min`): 50 in the published settings, 0 in transformers' class.
        high: upper edge of the filters in Hz (`frequency_max`).
        seconds: length that a sound is brought to (`max_length_s`).
        bands: number of filters (`feature_size`).
    """
    front_end = FusedMel if fused else FixedLengthMel
    return front_end(
        mel=MelSpectrogram(
            frames=Frames(length=1024, hop=480, fft=1024, padding="reflect", double=True),
            filters=MelFilters(
                rate=48000,
                bands=bands,
                low=low,
                high=high,
                scale="htk" if fused else "slaney",
                norm="none" if fused else "area",
            ),
            log=Log(base="dB", floor=1e-10),
        ),
        samples=seconds * 48000,
        fill="repeat whole",
    )


def audioset_patches(*, hop: int, offset: float) -> MelPatches:
    """The patches of VGGish and YAMNet at 16 kHz: 96 frames of 64 bands from 125 to 7500 Hz, ln(magnitude + offset).

    Args:
        hop: frames from patch to patch: 96 for VGGish, 48 for YAMNet.
        offset: 0.01 for VGGish, 0.001 for YAMNet.
    """
    return MelPatches(
        mel=MelSpectrogram(
            frames=Frames(length=400, hop=160, fft=512),
            filters=MelFilters(rate=16000, bands=64, low=125.0, high=7500.0, triangles="mel"),
            log=Log(floor=offset, by="added"),
            magnitude=True,
        ),
        length=96,
        hop=hop,
    )


LIBROSA_MEL = librosa_mel()
LIBROSA_MFCC = librosa_mfcc(LIBROSA_MEL)

KALDI_FBANK = kaldi_fbank(23)
KALDI_MFCC = kaldi_mfcc()

WESPEAKER = kaldi_fbank(80, window="hamming symmetric", centred=True)
"""WeSpeaker's models of VoxCeleb and CN-Celeb: 80 bands, 16-bit range, mean over time subtracted."""

THREE_D_SPEAKER = kaldi_fbank(80, scale=1.0, centred=True)
"""3D-Speaker's models, such as CAM++: 80 bands, samples in [-1, 1], mean over time subtracted."""

AST = FixedFramesMel(
    mel=kaldi_fbank(128, window="hann symmetric", scale=1.0, shift=4.2677393, divisor=2 * 4.5689974),
    length=1024,
)
"""Audio Spectrogram Transformer, trained on AudioSet: 1024 frames (10.24 s)."""

BEATS = kaldi_fbank(128, shift=-15.41663, divisor=2 * 6.55582)
"""BEATs: 128 bands, 16-bit range."""

PSF_FBANK = psf_fbank()
PSF_MFCC = psf_mfcc(PSF_FBANK)

HTK_MFCC = htk_mfcc()

SPEECHBRAIN_ECAPA = speechbrain_fbank(80)
SPEECHBRAIN_XVECTOR = speechbrain_fbank(24)

WHISPER = whisper()
WHISPER_128 = whisper(128)
"""Whisper large-v3 and large-v3-turbo."""

VGGISH = audioset_patches(hop=96, offset=0.01)
YAMNET = audioset_patches(hop=48, offset=0.001)
"""YAMNet. Its published model pads a sound to whole patches: `dataclasses.replace(YAMNET, incomplete="zeros")`."""

CLAP = clap(fused=False)
CLAP_FUSED = clap(fused=True)

RESEMBLYZER = VoiceWindows(
    mel=MelSpectrogram(
        frames=Frames(length=400, hop=160, fft=400, padding="zeros"),
        filters=MelFilters(rate=16000, bands=40, high=8000.0, scale="slaney", norm="area"),
        log=Log(base="none"),
    )
)
"""Resemblyzer's d-vector: windows of 1.6 s every 0.77 s, 40 bands without a logarithm."""
