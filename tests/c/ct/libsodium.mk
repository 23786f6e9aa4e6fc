# libsodium as PyNaCl bundles it, without sanitizers: valgrind follows what it does by itself.
TOP := $(abspath ../../..)
CACHE := $(TOP)/.cache
CSRC ?= $(TOP)/csrc
PYTHON ?= python3
PYNACL := $(shell $(PYTHON) -c 'from importlib.metadata import version; print(version("pynacl"))' 2>/dev/null)
SODIUM := $(CACHE)/libsodium-pynacl-$(PYNACL)-plain
SODIUM_FLAGS := -isystem $(SODIUM)/include

$(SODIUM)/lib/libsodium.a:
	@CC=gcc $(PYTHON) ../get_libsodium.py $(SODIUM) "-O2 -g"
