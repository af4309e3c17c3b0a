package coordinator

import (
	"fmt"
	"strconv"

	apierrors "github.com/oncelog/oncelog/api/errors"
)

// pageTokenVersion is the first character of a page token; behind it comes what
// the next page begins after. A client may show a token of one coordinator to
// another, of another version.
const pageTokenVersion = 1

func pageToken(last string) string { return strconv.Itoa(pageTokenVersion) + last }

// parsePageToken returns what a page begins after; "" is the first page.
func parsePageToken(token string) (after string, err error) {
	switch {
	case token == "":
		return "", nil
	case len(token) > maxName+1:
		return "", tooLong("page_token", maxName+1)
	case token[:1] != strconv.Itoa(pageTokenVersion):
		return "", apierrors.InvalidArgument("page_token", fmt.Sprintf(
			"must be the next_page_token of an earlier page: it begins with %q, and this coordinator knows version %d", token[:1], pageTokenVersion))
	}
	return token[1:], nil
}
