/* systemd links these for fibers, which nothing in udev starts. */
#include <errno.h>
#include <ucontext.h>

int getcontext(ucontext_t *context) { (void)context; errno = ENOSYS; return -1; }

int setcontext(const ucontext_t *context) { (void)context; errno = ENOSYS; return -1; }

int swapcontext(ucontext_t *from, const ucontext_t *to) { (void)from; (void)to; errno = ENOSYS; return -1; }

void makecontext(ucontext_t *context, void (*run)(void), int count, ...) { (void)context; (void)run; (void)count; }
