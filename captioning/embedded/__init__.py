"""The tiny CLIP that the package brings along: how it is trained on synthetic pedestrians, scored and written down.

Its purpose is to let every path of LUPerson-T run with nothing downloaded. It knows renders and says nothing about photographs.
"""
