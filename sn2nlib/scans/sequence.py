"""Signal equations of the sequences that the simulated acquisitions use."""

from dataclasses import dataclass

import numpy as np


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
