# the software engine
