"""Looking at a backbone or a calibration: sweeps of its blocks, tables of rewards. Nothing is imported
here.
"""
