"""Signal equations of the sequences that the simulated acquisitions use."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class MpRage:
    """MP-RAGE: inversion, wait, a train of `turbo` low-angle excitations, recovery; linear order, centre at TI.

    Attributes
    ----------
    tr, ti, te, echo_spacing
        Milliseconds. TR is from inversion to inversion, TI from inversion to the centre of the train.
    flip_angle
        Degrees. Not stated in the paper; we chose 8.
    turbo
        Excitations per inversion. Not stated in the paper; we chose 176.
    """

    tr: float = 2200.0
    ti: float = 1040.0
    te: float = 3.2
    flip_angle: float = 8.0
    echo_spacing: float = 7.5
    turbo: int = 176

    def __post_init__(self) -> None:
        train = self.turbo * self.echo_spacing
        if min(self.tr, self.ti, self.te, self.echo_spacing, self.turbo) <= 0 or not 0 < self.flip_angle <= 90:
            raise ValueError("MP-RAGE needs positive times, a positive turbo factor and a flip angle in (0°, 90°]")
        if self.ti < train / 2 or self.tr < self.ti + train / 2:
            raise ValueError(
                f"MP-RAGE: a train of {train:g} ms does not fit around TI = {self.ti:g} ms within TR = {self.tr:g} ms"
            )

    def signal(self, t1: np.ndarray, pd: np.ndarray, t2_star: np.ndarray | float = np.inf) -> np.ndarray:
        """Steady-state signal magnitude at the centre of the train.

        1. Along the train the magnetisation relaxes towards M0* = M0 (1 − e^(−τ/T1)) / (1 − e^(−τ/T1*)) with
           1/T1* = 1/T1 − ln(cos α)/τ (Look–Locker; Deichmann & Haase 1992, J Magn Reson 96:608).
        2. Inversion, the waits before and after the train and the train itself are affine maps of Mz, whose fixed
           point is the steady state.
        3. S = |Mz(TI)| sin α e^(−TE/T2*).

        Parameters
        ----------
        t1, t2_star : array, ms
        pd : array of the same shape
            Proton density relative to water.

        Returns
        -------
        array of float32
        """
        t1, pd = np.maximum(np.asarray(t1, np.float32), 1e-3), np.asarray(pd, np.float32)
        alpha, tau = np.deg2rad(self.flip_angle), self.echo_spacing
        train = self.turbo * tau
        before, after = self.ti - train / 2, self.tr - self.ti - train / 2
        e_tau = np.exp(-tau / t1)
        e_tau_star = e_tau * np.float32(np.cos(alpha))
        m_star = (1 - e_tau) / (1 - e_tau_star)
        e_train, e_half = e_tau_star**self.turbo, e_tau_star ** (self.turbo / 2)
        e_before, e_after = np.exp(-before / t1), np.exp(-after / t1)
        # Mz before inversion, m, satisfies m = 1 − e_after (1 − end) with start = 1 − (1 + m) e_before
        slope = -e_after * e_train * e_before
        offset = 1 - e_after + e_after * (m_star * (1 - e_train) + e_train * (1 - e_before))
        m = offset / (1 - slope)
        start = 1 - (1 + m) * e_before
        centre = m_star + (start - m_star) * e_half
        decay = np.exp(-self.te / np.asarray(t2_star, np.float32))
        return (pd * np.abs(centre) * np.float32(np.sin(alpha)) * decay).astype(np.float32)


@dataclass(frozen=True)
class Space:
    """T1-weighted SPACE: 3D turbo spin echo, a long train of low refocusing angles that vary along it.

    What moves dephases along such a train, so blood, and much of the CSF, is black: see `black_blood`.

    Attributes
    ----------
    tr, te, echo_spacing
        Milliseconds. TE is the effective one: of the echo that holds the centre of k-space.
    turbo
        Echoes per excitation.
    flip_low, flip_high
        Degrees. The refocusing angles begin at 90° + flip_low / 2, fall to flip_low, and rise evenly to flip_high at
        the end of the train. Not stated in the paper; we chose 35 and 140.
    blur
        Whether k-space is weighted by `modulation`.
    t1, t2
        Milliseconds: the tissue whose echoes weight k-space, by default a vessel wall.
    """

    tr: float = 800.0
    te: float = 23.0
    echo_spacing: float = 5.84
    turbo: int = 40
    flip_low: float = 35.0
    flip_high: float = 140.0
    blur: bool = False
    t1: float = 1000.0
    t2: float = 55.0

    def __post_init__(self) -> None:
        if min(self.tr, self.te, self.echo_spacing, self.turbo, self.t1, self.t2) <= 0:
            raise ValueError("SPACE needs positive times and a positive turbo factor")
        if not 0 < self.flip_low <= self.flip_high <= 180:
            raise ValueError("SPACE: refocusing angles lie in (0°, 180°], the low one not above the high one")
        if not self.echo_spacing / 2 <= self.te <= self.turbo * self.echo_spacing < self.tr:
            raise ValueError(
                f"SPACE: a train of {self.turbo} echoes every {self.echo_spacing:g} ms cannot hold TE = "
                f"{self.te:g} ms and fit into TR = {self.tr:g} ms"
            )

    @property
    def centre_echo(self) -> int:
        """Number of the echo, counted from 1, that holds the centre of k-space."""
        return max(round(self.te / self.echo_spacing), 1)

    @property
    def flip_angles(self) -> np.ndarray:
        """Refocusing angles of the train, (turbo,) degrees."""
        angles = np.linspace(self.flip_low, self.flip_high, self.turbo)
        # half way to 90° first, into the steady state of the low angle (Hennig et al. Magn Reson Med 2003;49:527)
        angles[0] = 90 + self.flip_low / 2
        return angles

    def signal(self, t1: np.ndarray, pd: np.ndarray, t2: np.ndarray | float = np.inf) -> np.ndarray:
        """Signal magnitude of tissue at rest, at the effective TE.

        S = PD (1 − e^(−(TR − N·ESP)/T1)) e^(−TE/T2): the excitation and its train leave no magnetisation along B0,
        which then recovers until the next one (Mugler JP. J Magn Reson Imaging 2014;39:745). Stimulated echoes
        make the decay slower than their echo's time tells; the effective TE that a scanner states allows for it.

        Parameters
        ----------
        t1, t2 : array, ms
        pd : array of the same shape
            Proton density relative to water.

        Returns
        -------
        array of float32
        """
        t1, pd = np.maximum(np.asarray(t1, np.float32), 1e-3), np.asarray(pd, np.float32)
        recovered = 1 - np.exp(-np.float32(self.tr - self.turbo * self.echo_spacing) / t1)
        decay = np.exp(-np.float32(self.te) / np.maximum(np.asarray(t2, np.float32), 1e-3))
        return (pd * recovered * decay).astype(np.float32)

    def modulation(self, shape: tuple[int, int]) -> np.ndarray:
        """Weight of each k-space sample (kz, ky) float32, 1 in the centre: the blur that the train brings.

        1. Echo amplitudes E_n of the tissue (t1, t2), from `echo_train`.
        2. Radial view order (Busse RF et al. Magn Reson Med 2008;60:640): samples sorted by
           ρ = √((2kz/nz)² + (2ky/ny)²) are dealt out evenly, the centre at the echo c of the effective TE, the corners
           at the last one: n(k) = c + (N − c) · rank(ρ). Echoes before c are not used.
        3. M(k) = E_{n(k)} / E_c, interpolated between echoes, as jittered view orders leave no steps.
        """
        echoes = echo_train(self.flip_angles, echo_spacing=self.echo_spacing, t1=self.t1, t2=self.t2)
        kz, ky = (2 * (np.arange(n) - n // 2) / n for n in shape)
        distance = np.hypot(kz[:, None], ky[None, :]).round(9)
        ranks = rankdata(distance, method="min").reshape(shape) - 1
        number = self.centre_echo + (self.turbo - self.centre_echo) * ranks / max(int(ranks.max()), 1)
        amplitude = np.interp(number, np.arange(1, self.turbo + 1), echoes)
        return (amplitude / echoes[self.centre_echo - 1]).astype(np.float32)


def echo_train(flip_angles: np.ndarray, *, echo_spacing: float, t1: float, t2: float) -> np.ndarray:
    """Echo amplitudes of a CPMG train with any refocusing angles, by extended phase graphs.

    With the configurations F₊(k), F₋(k) and Z(k) = iζ(k), one echo spacing is relaxation over half of it and a shift
    F₊(k) → F₊(k+1), F₋(k+1) → F₋(k), F₋(1) → F₊(0); the pulse α,

        F₊' = cos²(α/2) F₊ + sin²(α/2) F₋ + sin α ζ
        F₋' = sin²(α/2) F₊ + cos²(α/2) F₋ − sin α ζ
        ζ'  = −½ sin α F₊ + ½ sin α F₋ + cos α ζ;

    and again a shift and relaxation; the echo is F₊(0). All are real under the CPMG condition. Magnetisation that
    recovers along B0 meanwhile never is in phase at an echo (Weigel M. J Magn Reson Imaging 2015;41:266).

    Parameters
    ----------
    flip_angles : (n,) degrees
    echo_spacing, t1, t2
        Milliseconds.

    Returns
    -------
    (n,) float64, 1 right after the excitation
    """
    angles = np.deg2rad(np.asarray(flip_angles, float))
    e1, e2 = np.exp(-echo_spacing / 2 / t1), np.exp(-echo_spacing / 2 / t2)
    plus, minus, zeta = (np.zeros(2 * len(angles) + 2) for _ in range(3))
    plus[0] = minus[0] = 1.0

    def half_spacing() -> None:
        plus[1:] = plus[:-1].copy()
        minus[:-1] = minus[1:].copy()
        plus[0] = minus[0]
        plus[:], minus[:], zeta[:] = e2 * plus, e2 * minus, e1 * zeta

    echoes = np.empty(len(angles))
    for n, angle in enumerate(angles):
        half_spacing()
        cos2, sin2, sin = np.cos(angle / 2) ** 2, np.sin(angle / 2) ** 2, np.sin(angle)
        mixed = plus - minus
        new_plus, new_minus = cos2 * plus + sin2 * minus + sin * zeta, sin2 * plus + cos2 * minus - sin * zeta
        zeta[:] = np.cos(angle) * zeta - 0.5 * sin * mixed
        plus[:], minus[:] = new_plus, new_minus
        half_spacing()
        echoes[n] = plus[0]
    return echoes
