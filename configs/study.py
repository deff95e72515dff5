"""The packaged config of this name, for `python launch.py --config=configs/study.py:part=A`."""

from jaxbudget.lab.configs.study import get_config as get_config
