// Package gpuprobe keeps a view of this machine's GPUs up to date: it runs
// gpu-probe as a child, and where that cannot work asks nvidia-smi.
//
// It owns the child. A probe that dies, hangs in the driver or says nothing is
// killed and started again, after a pause that grows; one that the kernel cannot
// end (the driver holds it) is left alone, and no other is put beside it. The
// child's life hangs on its standard input, so it ends with this process,
// however that ends.
//
// What it guarantees to its reader: a View never changes once handed out, says
// how old it is by this process's own monotonic clock, and Down says in a
// sentence why it is not to be placed by. After a crash there is nothing to
// recover: the next Run looks anew.
package gpuprobe
