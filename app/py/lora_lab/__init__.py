"""LoRA Lab: train and run LoRA adapters on WebGPU, in a browser (Pyodide) or natively (wgpu)."""

__version__ = "0.1.0"
