//! Reading a list page by page.

use futures::{Stream, TryStreamExt as _, stream};

use crate::ports::{Fault, Page};

/// Returns the items of all pages, page by page.
///
/// `read` reads the page after a cursor, the first one without. `cursor` returns the cursor after an item.
pub(crate) fn pages<T, C, F: Future<Output = Result<Page<T>, Fault>>>(
    read: impl Fn(Option<C>) -> F,
    cursor: impl Fn(&T) -> C,
) -> impl Stream<Item = Result<Vec<T>, Fault>> {
    // The state: `None` after the last page.
    stream::try_unfold((Some(None), read, cursor), async |(state, read, cursor)| {
        let Some(after) = state else {
            return Ok(None);
        };
        let page = read(after).await?;
        let next = page.next().map(|last| Some(cursor(last)));
        Ok(Some((page.items, (next, read, cursor))))
    })
}

/// Returns the items of all pages in one list.
pub(crate) async fn all<T, C, F: Future<Output = Result<Page<T>, Fault>>>(
    read: impl Fn(Option<C>) -> F,
    cursor: impl Fn(&T) -> C,
) -> Result<Vec<T>, Fault> {
    pages(read, cursor).try_concat().await
}
