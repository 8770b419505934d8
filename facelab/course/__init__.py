"""The course as a whole: its notebooks, their runs, settled figures and tables, JupyterLab."""
