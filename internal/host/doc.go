// Package host says which machine, which boot of it and which process something
// was, in words that still hold after any restart, and asks the kernel who is at
// the other end of a socket or holds a lock.
//
// It owns no state. Its facts come from the kernel and from the system's files:
//
//   - /proc/sys/kernel/random/boot_id: the boot;
//   - /etc/machine-id, else /var/lib/dbus/machine-id, else the host name: the
//     machine over all its boots;
//   - /proc/self/ns/pid: the namespace in which a pid means something;
//   - /proc/PID/stat: a process, and when it was started;
//   - SO_PEERCRED: the process at the other end of a Unix socket;
//   - flock(2): who is alone with a file.
//
// A host name is no identity: it changes (DHCP), and clones share it. It is kept
// to be shown to people.
package host
