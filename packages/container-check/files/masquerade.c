/* masquerade: nf_tables gives whatever leaves this network namespace the address of the interface that it leaves by. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOURCE_NAT_PRIORITY 100
#define FAMILY NFPROTO_IPV4

static _Alignas(4) char batch[1024];
static size_t used;
static struct nlmsghdr *message;

static void *add(size_t size)
{
	void *place = batch + used;

	used += NLMSG_ALIGN(size);
	return place;
}

static void begin(int type, int flags, int family, int resource)
{
	struct nfgenmsg *header;

	message = add(sizeof(*message));
	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	message->nlmsg_seq = 1;
	header = add(sizeof(*header));
	header->nfgen_family = family;
	header->version = NFNETLINK_V0;
	header->res_id = htons(resource);
}

static void end(void)
{
	message->nlmsg_len = batch + used - (char *)message;
}

static void begin_command(int command, int flags)
{
	begin(NFNL_SUBSYS_NFTABLES << 8 | command, NLM_F_CREATE | NLM_F_ACK | flags, FAMILY, 0);
}

static struct nlattr *put(int type, const void *data, size_t size)
{
	struct nlattr *attribute = add(sizeof(*attribute) + size);

	attribute->nla_type = type;
	attribute->nla_len = sizeof(*attribute) + size;
	if (size)
		memcpy(attribute + 1, data, size);
	return attribute;
}

static void put_text(int type, const char *text)
{
	put(type, text, strlen(text) + 1);
}

static void put_number(int type, unsigned int number)
{
	unsigned int data = htonl(number);

	put(type, &data, sizeof(data));
}

static struct nlattr *begin_nest(int type)
{
	return put(NLA_F_NESTED | type, NULL, 0);
}

static void end_nest(struct nlattr *nest)
{
	nest->nla_len = batch + used - (char *)nest;
}

static void fill(void)
{
	struct nlattr *outer, *inner;

	begin(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	end();
	begin_command(NFT_MSG_NEWTABLE, 0);
	put_text(NFTA_TABLE_NAME, "kiln");
	end();
	begin_command(NFT_MSG_NEWCHAIN, 0);
	put_text(NFTA_CHAIN_TABLE, "kiln");
	put_text(NFTA_CHAIN_NAME, "out");
	outer = begin_nest(NFTA_CHAIN_HOOK);
	put_number(NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING);
	put_number(NFTA_HOOK_PRIORITY, SOURCE_NAT_PRIORITY);
	end_nest(outer);
	put_text(NFTA_CHAIN_TYPE, "nat");
	end();
	begin_command(NFT_MSG_NEWRULE, NLM_F_APPEND);
	put_text(NFTA_RULE_TABLE, "kiln");
	put_text(NFTA_RULE_CHAIN, "out");
	outer = begin_nest(NFTA_RULE_EXPRESSIONS);
	inner = begin_nest(NFTA_LIST_ELEM);
	put_text(NFTA_EXPR_NAME, "masq");
	end_nest(inner);
	end_nest(outer);
	end();
	begin(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	end();
}

/* The first error that the kernel answers, or 0 when it has said yes to all three commands. */
static int answer(int out)
{
	_Alignas(4) char buffer[8192];
	int yes = 0;

	while (yes < 3) {
		ssize_t length = recv(out, buffer, sizeof(buffer), 0);
		struct nlmsghdr *reply = (struct nlmsghdr *)buffer;

		if (length < 0)
			return errno;
		for (; NLMSG_OK(reply, (size_t)length); reply = NLMSG_NEXT(reply, length)) {
			struct nlmsgerr *said = NLMSG_DATA(reply);

			if (reply->nlmsg_type != NLMSG_ERROR)
				continue;
			if (said->error)
				return -said->error;
			yes++;
		}
	}
	return 0;
}

int main(void)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int out = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);

	fill();
	if (out < 0 || sendto(out, batch, used, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
		perror("nf_tables");
		return 1;
	}
	errno = answer(out);
	if (errno) {
		perror("nf_tables");
		return 1;
	}
	return 0;
}
