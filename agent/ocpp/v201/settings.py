"""The names of the settings that this dialect reads, as ``StationView`` has them.

Source: OCPP 2.0.1 part 2 appendix 3; ``agent.config.catalogue``.
"""

from __future__ import annotations

from typing import Final

MINIMUM_STATUS_DURATION: Final = "OCPPCommCtrlr.MinimumStatusDuration"
OFFLINE_THRESHOLD: Final = "OCPPCommCtrlr.OfflineThreshold"
TX_STARTED_MEASURANDS: Final = "SampledDataCtrlr.TxStartedMeasurands"
TX_UPDATED_MEASURANDS: Final = "SampledDataCtrlr.TxUpdatedMeasurands"
TX_ENDED_MEASURANDS: Final = "SampledDataCtrlr.TxEndedMeasurands"
TX_ENDED_INTERVAL: Final = "SampledDataCtrlr.TxEndedInterval"
ALIGNED_MEASURANDS: Final = "AlignedDataCtrlr.Measurands"
ALIGNED_TX_ENDED_MEASURANDS: Final = "AlignedDataCtrlr.TxEndedMeasurands"
ALIGNED_TX_ENDED_INTERVAL: Final = "AlignedDataCtrlr.TxEndedInterval"
SMART_CHARGING_ENABLED: Final = "SmartChargingCtrlr.Enabled"


DEVICE_DATA: Final = "DeviceDataCtrlr"
MONITORING: Final = "MonitoringCtrlr"


def items_per_message(component: str, message: str) -> str:
    """The setting of ``component`` that limits the items of ``message``."""
    return f"{component}.ItemsPerMessage[{message}]"


def bytes_per_message(component: str, message: str) -> str:
    """The setting of ``component`` that limits the size of ``message``."""
    return f"{component}.BytesPerMessage[{message}]"
