#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
exec "$VMXD_BUILDDIR/tests/contract/contract" --engine kvm
