# SPDX-License-Identifier: Apache-2.0
# bash completion for vmctl(1); names of VMs come from the daemon.

_vmctl_names() {
	vmctl --json list 2>/dev/null | sed -n 's/^{"name":"\([^"]*\)".*/\1/p'
}

_vmctl() {
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb= i
	local general="--socket --json --quiet --help --version"
	local config="--transport --rings --console --port --balloon --mem --pmem --vsock --kernel --initrd --cmdline --memory --cpus --disk
		--share --vhost-user --net --publish --engine --on-reboot
		--no-console --nested --debug-exit --test-device --soft-debug --code-cache --rm"
	local verbs="run create start stop kill pause resume reset balloon mem delete list info wait console
		disk net vhost events doctor rpc version help"

	COMPREPLY=()
	case $previous in
	--kernel | --initrd | --disk | --pmem | --share | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return ;;
	--engine)
		mapfile -t COMPREPLY < <(compgen -W "auto kvm soft" -- "$word")
		return ;;
	--on-reboot)
		mapfile -t COMPREPLY < <(compgen -W "restart stop" -- "$word")
		return ;;
	--transport)
		mapfile -t COMPREPLY < <(compgen -W "pci mmio" -- "$word")
		return ;;
	--console)
		mapfile -t COMPREPLY < <(compgen -W "serial virtio none" -- "$word")
		return ;;
	--rings)
		mapfile -t COMPREPLY < <(compgen -W "split packed" -- "$word")
		return ;;
	--soft-debug)
		mapfile -t COMPREPLY < <(compgen -W "step-only one-insn no-chain no-tlb tiny-cache moved-code runs" \
			-- "$word")
		return ;;
	--cmdline | --memory | --mem | --cpus | --code-cache | --timeout | --from | --count)
		return ;;
	esac
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--socket) i=$((i + 1)) ;;
		-*) ;;
		*)
			verb=${COMP_WORDS[i]}
			break ;;
		esac
	done
	if [[ -z $verb ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$verbs $general" -- "$word")
		return
	fi
	if [[ $word != -* ]]; then
		case $verb in
		start | stop | kill | pause | resume | reset | balloon | mem | delete | info | wait | console)
			mapfile -t COMPREPLY < <(compgen -W "$(_vmctl_names)" -- "$word") ;;
		disk | net | vhost)
			case $previous in
			disk | net | vhost) mapfile -t COMPREPLY < <(compgen -W "list add remove" -- "$word") ;;
			list | add | remove)
				mapfile -t COMPREPLY < <(compgen -W "$(_vmctl_names)" -- "$word") ;;
			*) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
			esac ;;
		help)
			mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$word") ;;
		esac
		return
	fi
	case $verb in
	run) general="$general $config --detach" ;;
	create) general="$general $config" ;;
	stop | wait) general="$general --timeout" ;;
	delete) general="$general --force" ;;
	disk) general="$general --force --timeout" ;;
	vhost) general="$general --timeout" ;;
	net) general="$general --force --timeout --publish" ;;
	info) general="$general --stats" ;;
	events) general="$general --from --count" ;;
	doctor) general="$general --refresh" ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$general" -- "$word")
}

complete -F _vmctl vmctl
