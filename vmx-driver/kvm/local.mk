# the KVM engine
