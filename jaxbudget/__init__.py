"""jaxbudget: which samples should a model see under a fixed compute budget?"""
