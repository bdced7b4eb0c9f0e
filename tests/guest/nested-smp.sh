# SPDX-License-Identifier: Apache-2.0
# nested.sh with two processors in the guest and in its guest.
VMXD_NESTED_CPUS=2
export VMXD_NESTED_CPUS
. "$(dirname "$0")/nested.sh"
