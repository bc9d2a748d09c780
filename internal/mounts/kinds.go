package mounts

import "strings"

// local are the kinds of file systems that one kernel alone keeps: what it says
// about locks is true, and what is written is seen by everybody at once. Everything
// else depends on a server, on another program, or on nobody knows what.
var local = map[string]string{
	"bcachefs": "bcachefs", "btrfs": "Btrfs", "devtmpfs": "devtmpfs", "exfat": "exFAT", "ext2": "ext2", "ext3": "ext3", "ext4": "ext4",
	"f2fs": "F2FS", "jfs": "JFS", "nilfs2": "NILFS2", "ntfs3": "NTFS", "overlay": "overlay", "ramfs": "ramfs", "reiserfs": "ReiserFS",
	"rootfs": "rootfs", "tmpfs": "tmpfs", "ubifs": "UBIFS", "vfat": "FAT", "xfs": "XFS", "zfs": "ZFS",
}

// remote are names for the others that are often met.
var remote = map[string]string{
	"9p": "9p", "afs": "AFS", "autofs": "autofs", "beegfs": "BeeGFS", "ceph": "CephFS", "cifs": "SMB", "fuse": "FUSE", "fuseblk": "FUSE",
	"gfs2": "GFS2", "gpfs": "GPFS", "lustre": "Lustre", "nfs": "NFS", "nfs4": "NFS", "ocfs2": "OCFS2", "orangefs": "OrangeFS",
	"panfs": "PanFS", "pvfs2": "PVFS2", "smb3": "SMB", "virtiofs": "virtiofs", "wekafs": "WekaFS",
}

// Local says whether one kernel alone keeps the file system.
func (m Mount) Local() bool { return local[m.Type] != "" }

// FUSE says whether a program serves the file system, which may say of locks what it
// likes.
func (m Mount) FUSE() bool {
	kind, _, _ := strings.Cut(m.Type, ".")
	return kind == "fuse" || kind == "fuseblk"
}

// Kind is what people call the type: "NFS", "ext4", "FUSE (sshfs)".
func (m Mount) Kind() string {
	if name := local[m.Type]; name != "" {
		return name
	}
	if name := remote[m.Type]; name != "" {
		return name
	}
	if _, program, ok := strings.Cut(m.Type, "."); ok && m.FUSE() {
		return "FUSE (" + program + ")"
	}
	return m.Type
}
