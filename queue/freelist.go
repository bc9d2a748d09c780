package queue

import bolt "go.etcd.io/bbolt"

// maxSyncedFreelist is how many free pages a commit still writes out.
//
// With the list of free pages on disk, opening a database of a million tasks
// takes a tenth of a millisecond; without it bbolt walks every page to find the
// free ones. But each commit writes the whole list, 8 bytes per page, and after
// a large backlog has drained that would be the bulk of every commit. So the
// list is written while it is short, and always at a clean close. See
// docs/adr/0003-freelist.md.
const maxSyncedFreelist = 1000

// tuneFreelist decides for the commit of tx. bbolt reads NoFreelistSync once per
// commit, inside it, and the meta page of that commit records whether the list
// was written; opening and rolling back look at the meta page and not at the
// option. So the option may change from commit to commit, as long as only the
// writer changes it, with its transaction open.
func tuneFreelist(tx *bolt.Tx, always bool) {
	db := tx.DB()
	st := db.Stats()
	db.NoFreelistSync = !always && st.FreePageN+st.PendingPageN > maxSyncedFreelist
}
