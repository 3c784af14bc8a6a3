"""Calibri's node for ComfyUI. Copy or link this folder into `custom_nodes`; see README.md."""

from .node import ApplyCalibration

NODE_CLASS_MAPPINGS = {"CalibriApplyCalibration": ApplyCalibration}
NODE_DISPLAY_NAME_MAPPINGS = {"CalibriApplyCalibration": "Apply Calibri calibration"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
