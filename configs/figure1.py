"""The packaged config of this name, for `python launch.py --config=configs/figure1.py`."""

from jaxbudget.lab.configs.figure1 import get_config as get_config
