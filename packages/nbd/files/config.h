/* What its configure would find out about musl and the kernel. */
#define HAVE_FDATASYNC 1
#define HAVE_NETLINK 0
#define NBD_LFS 1
#define PACKAGE_BUGREPORT "nbd@other.debian.org"
#define PACKAGE_STRING "nbd " PACKAGE_VERSION
#define SIZEOF_UNSIGNED_INT __SIZEOF_INT__
#define SIZEOF_UNSIGNED_LONG_INT __SIZEOF_LONG__
#define SIZEOF_UNSIGNED_LONG_LONG_INT __SIZEOF_LONG_LONG__
#define SIZEOF_UNSIGNED_SHORT_INT __SIZEOF_SHORT__
#define SYSCONFDIR "/etc"
